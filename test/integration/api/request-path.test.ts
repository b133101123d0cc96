/**
 * The list of files in CONTRIBUTING that a completion goes through, from the POST to the event of its stream: each of the server's runs a
 * function of its own while one is streamed by the real ranks, and the list stays short enough to be read.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../../../server/config/load-config.js';
import { LlmEngine } from '../../../server/engines/llm/llm-engine.js';
import { LocalLauncher } from '../../../server/machine/ranks/local-launcher.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const MOST_FILES = 34;
const dist = (file: string): string => path.join(repositoryRoot, 'dist', file);

const [, section = ''] = readFileSync(path.join(repositoryRoot, 'CONTRIBUTING.md'), 'utf8').split(
  '## A request, file by file\n',
);
const listed = [
  ...section.split('\n## ')[0]!.matchAll(/`((?:server|shard-worker|proto)\/[\w/.-]+\.(?:ts|proto))`/g),
].map((match) => match[1]!);

let store: string;
let manager: WorkLoadManager;
let http: TestServer;
beforeAll(async () => {
  store = mkdtempSync(path.join(tmpdir(), 'request-path-'));
  const [config] = loadConfig({ argv: [], env: { TENSOR_PARALLEL_DEGREE: '1' }, cwd: repositoryRoot }).models;
  const { logger } = new LogRecorder();
  const engine = new LlmEngine({
    shardStore: store,
    shardStoreMaxBytes: 2 ** 30,
    partitionerProgram: dist('partitioner/main.js'),
    launcher: new LocalLauncher(dist('shard-worker/main.js')),
  });
  manager = new WorkLoadManager({ engineOf: () => engine, logger });
  await manager.load(config!);
  http = await startServer({}, null, { service: manager, management: manager });
});
afterAll(async () => {
  await http.server.close();
  await manager.close();
  rmSync(store, { recursive: true });
});

/** Sources of the product that ran a function while `work` did. */
async function filesRunBy(work: () => Promise<unknown>): Promise<string[]> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  await session.post('Profiler.takePreciseCoverage');
  await work();
  const { result } = await session.post('Profiler.takePreciseCoverage');
  session.disconnect();
  return result
    .filter(({ functions }) => functions.some(({ ranges }) => ranges.some(({ count }) => count > 0)))
    .map(({ url }) => decodeURI(url).split('/dist/')[1]?.replace(/\.js$/, '.ts') ?? '');
}

it(`names at most ${MOST_FILES} files, all there, and the server's all run for one streamed completion`, async () => {
  expect(listed.length).toBeGreaterThan(20);
  expect(listed.length).toBeLessThanOrEqual(MOST_FILES);
  expect(new Set(listed).size).toBe(listed.length);
  expect(listed.filter((file) => !existsSync(path.join(repositoryRoot, file)))).toEqual([]);
  const ran = await filesRunBy(async () => {
    const response = await fetch(`${http.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'embedded', prompt: 'Once upon a time', max_tokens: 4, stream: true }),
    });
    expect(await response.text()).toMatch(/^data: \{.*"text_completion".*\n\ndata: \[DONE\]\n\n$/s);
  });
  expect(ran.length).toBeGreaterThan(listed.length);
  const inServer = listed.filter((file) => file.startsWith('server/'));
  expect(inServer.filter((file) => !ran.includes(file))).toEqual([]);
});
