/**
 * Without the library of our own kernels: the server says so, writes shards for ONNX Runtime's operators, and answers; with it,
 * shards are panels. Weights of 16 bits need the kernels.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, expect, it } from 'vitest';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { ServerProcess } from '../support/server-process.js';

const store = mkdtempSync(path.join(tmpdir(), 'kernels-off-'));
let server: ServerProcess | undefined;
afterEach(() => server?.stop());
afterAll(() => rmSync(store, { recursive: true }));

const NO_KERNELS = /no kernels of our own on this machine \(or SHARDSERVE_KERNELS=off\)/;

async function start(environment: Record<string, string>): Promise<ServerProcess> {
  server = await ServerProcess.start({
    SERVING_SHARD_STORE: store,
    TENSOR_PARALLEL_DEGREE: '2',
    ...environment,
  });
  return server;
}

async function text(): Promise<string> {
  const response = await fetch(`${server!.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'embedded', prompt: 'Once upon a time', max_tokens: 8, temperature: 0 }),
  });
  expect(response.status).toBe(200);
  const body = (await response.json()) as { choices: { text: string }[] };
  return body.choices[0]!.text;
}

const notes = (of: ServerProcess): string[] =>
  of.lines.map(({ msg }) => msg).filter((msg) => NO_KERNELS.test(msg));

it('with SHARDSERVE_KERNELS=off it says so, and int4 runs by ONNX Runtime', async () => {
  const off = await start({ SHARDSERVE_KERNELS: 'off', OPTION_DTYPE: 'int4' });
  expect(notes(off)).toHaveLength(1);
  expect(await text()).not.toBe('');
  // Beside its lease.
  const shards = readdirSync(store).filter((name) => !name.startsWith('.'));
  expect(shards).toEqual([expect.stringMatching(/^llama-int4-onnx-b32-/)]);
});

it('and bf16 is held as fp32, which it says', async () => {
  const off = await start({ SHARDSERVE_KERNELS: 'off', OPTION_DTYPE: 'bf16' });
  expect(notes(off)).toEqual([expect.stringMatching(/; dtype bf16 is held as fp32$/)]);
  expect(await text()).not.toBe('');
});

it.runIf(kernelLibrary() !== null)('with the library shards are panels, and nothing is said', async () => {
  const on = await start({ OPTION_DTYPE: 'bf16' });
  expect(notes(on)).toEqual([]);
  expect(await text()).not.toBe('');
  expect(readdirSync(store).some((name) => name.startsWith('llama-bf16-tp2-'))).toBe(true);
});
