/** Standard output that is full, slow or gone: lines are lost, and nobody waits. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LossyOutput } from '../../../server/logging/lossy-output.js';

let folder: string;
const open: number[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'shardserve-lossy-'));
});
afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd);
  rmSync(folder, { recursive: true, force: true });
});

/** A pipe's two ends; neither waits. */
function pipe(): { reader: number; writer: number } {
  const name = path.join(folder, 'pipe');
  execFileSync('mkfifo', [name]);
  const reader = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(name, constants.O_WRONLY);
  open.push(writer);
  return { reader, writer };
}

const unreachable = (text: string): void => expect.unreachable(text);

it('lines come out in order, those written before the end too', async () => {
  const file = path.join(folder, 'log');
  const fd = openSync(file, 'a');
  open.push(fd);
  const output = new LossyOutput(fd, unreachable);
  const lines = Array.from({ length: 5000 }, (_, index) => `${index} ${'x'.repeat(index % 300)}\n`);
  for (const line of lines) output.write(line);
  await output.close();
  expect(readFileSync(file, 'utf8')).toBe(lines.join(''));
  expect(output.dropped).toBe(0);
});

it('a full disk is borne: close ends, and what is beyond 4 MiB is dropped and counted', async () => {
  const fd = openSync('/dev/full', 'w');
  open.push(fd);
  const output = new LossyOutput(fd, unreachable);
  for (let index = 0; index < 10; index++) output.write('x'.repeat(1024 * 1024));
  expect(output.dropped).toBe(6);
  await output.close();
});

it('a reader that stops is not waited for; when it reads again no line is broken, and the gap is told', async () => {
  const { reader, writer } = pipe();
  open.push(reader);
  const told: string[] = [];
  const output = new LossyOutput(writer, (text) => {
    told.push(text);
    output.write('THE GAP\n');
  });
  const line = (index: number): string => `${String(index).padStart(6, '0')}${'y'.repeat(1000)}\n`;
  for (let index = 0; index < 8000; index++) output.write(line(index));
  expect(output.dropped).toBeGreaterThan(1000);
  const chunk = Buffer.alloc(64 * 1024);
  let text = '';
  while (!text.endsWith('THE GAP\n')) {
    try {
      text += chunk.toString('latin1', 0, readSync(reader, chunk));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('EAGAIN');
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await output.close();
  const lines = text.split('\n').slice(0, -1);
  const kept = 8000 - output.dropped;
  expect(lines.slice(-2).map((one) => one.slice(0, 7))).toEqual([line(kept - 1).slice(0, 7), 'THE GAP']);
  // Not one comparison of four megabytes: a failure would print them.
  expect(lines.findIndex((one, index) => index < kept && `${one}\n` !== line(index))).toBe(-1);
  expect(told).toEqual([
    `standard output could not be written for a while; ${output.dropped} lines were dropped`,
  ]);
});

it('a reader that has gone loses the lines and nothing else', async () => {
  const { reader, writer } = pipe();
  closeSync(reader);
  const output = new LossyOutput(writer, unreachable);
  output.write('one\n');
  await output.close();
  expect(output.dropped).toBe(1);
});
