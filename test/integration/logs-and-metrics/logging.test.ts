/** The files of log_folder: their names, their lines, and that they turn over. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { LogFile } from '../../../server/logging/log-file.js';
import { createServerLog } from '../../../server/logging/server-log.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'shardserve-log-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const read = (name: string): string => readFileSync(path.join(folder, name), 'utf8');

it('a log folder gets the four files of DJLServing, and is made where it is missing', async () => {
  const logs = path.join(folder, 'deep', 'logs');
  const log = createServerLog({ level: 'info', folder: logs });
  log.logger.info({ model: 'toy' }, 'hello');
  log.logger.debug('too fine');
  log.files?.access({
    ip: '::1',
    method: 'GET',
    uri: '/ping',
    httpVersion: '1.1',
    status: 200,
    durationMs: 1.2,
  });
  log.files?.serverMetric('Response_2XX.Count:1|#Host:here');
  log.files?.modelMetric('LoadModel.Microseconds:5|#Model:toy');
  await log.close();
  log.logger.info('after the end');
  folder = logs;
  expect(readdirSync(logs).sort()).toEqual([
    'access.log',
    'model_metric.log',
    'server_metric.log',
    'serving.log',
  ]);
  const lines = read('serving.log').trim().split('\n');
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 30, model: 'toy', msg: 'hello' });
  const time = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d';
  expect(read('access.log')).toMatch(new RegExp(`^${time} ::1 "GET /ping HTTP/1\\.1" 200 1\\n$`));
  expect(read('server_metric.log')).toMatch(new RegExp(`^${time} Response_2XX\\.Count:1\\|#Host:here\\n$`));
  expect(read('model_metric.log')).toMatch(
    new RegExp(`^${time} LoadModel\\.Microseconds:5\\|#Model:toy\\n$`),
  );
  rmSync(path.dirname(logs), { recursive: true });
});

it('a line of 20 MiB is told by its beginning', async () => {
  const log = createServerLog({ level: 'info', folder });
  log.logger.warn({ param: 'x'.repeat(20 * 1024 * 1024) }, 'refused');
  await log.close();
  const [line] = read('serving.log').split('\n');
  expect(line!.length).toBeLessThan(10_000);
  expect(JSON.parse(line!)).toMatchObject({
    level: 40,
    msg: 'a line was cut',
    start: expect.stringContaining('"param":"xxx'),
  });
});

it('a log folder that cannot be is an error of the configuration', () => {
  const file = path.join(folder, 'file');
  writeFileSync(file, '');
  const make = () => createServerLog({ level: 'info', folder: path.join(file, 'logs') });
  expect(make).toThrow(ServingError);
  expect(make).toThrow('log_folder: cannot write to');
});

it('a log file turns over at 10 MB, and no line is lost', async () => {
  const bytes = 10 * 1024 * 1024 - 10;
  writeFileSync(path.join(folder, 'serving.log'), 'x'.repeat(bytes));
  const log = new LogFile(folder, 'serving.log', (text) => expect.unreachable(text));
  for (const line of ['the last', 'the first', 'the second']) log.write(line);
  await log.close();
  expect(readdirSync(folder).sort()).toEqual(['serving.log', 'serving.log.1.gz']);
  const old = gunzipSync(readFileSync(path.join(folder, 'serving.log.1.gz'))).toString();
  expect(old.slice(bytes) + read('serving.log')).toBe('the last\nthe first\nthe second\n');
});

it('lines that a slow disk leaves waiting are dropped beyond 8 MiB, and their number is told', async () => {
  const told: string[] = [];
  const log = new LogFile(folder, 'a.log', (text) => told.push(text));
  const line = 'x'.repeat(1024 * 1024 - 1);
  // Nothing is written before this turn of the event loop is over.
  for (let index = 0; index < 12; index++) log.write(line);
  await log.close();
  expect(told).toEqual([`${path.join(folder, 'a.log')}: the disk was too slow; 3 lines were dropped`]);
});

it('a log file that cannot be written is told once, drops lines, and is written again when it can be', async () => {
  const told: string[] = [];
  const waiting: (() => void)[] = [];
  const nextTold = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const file = path.join(folder, 'file');
  writeFileSync(file, '');
  const trouble = nextTold();
  const log = new LogFile(
    file,
    'a.log',
    (text) => {
      told.push(text);
      waiting.shift()?.();
    },
    1,
  );
  log.write('lost');
  await trouble;
  log.write('lost too');
  // A disk that has room again.
  rmSync(file);
  const again = nextTold();
  const writing = setInterval(() => log.write('kept or lost'), 1);
  await again;
  clearInterval(writing);
  await log.close();
  expect(told).toHaveLength(2);
  expect(told[0]).toContain('cannot be written');
  expect(told[1]).toMatch(/is written again; \d+ lines were dropped$/);
  expect(log.dropped).toBe(Number(/(\d+) lines/.exec(told[1]!)?.[1]));
  expect(readFileSync(path.join(file, 'a.log'), 'utf8')).toMatch(/^(kept or lost\n)+$/);
});
