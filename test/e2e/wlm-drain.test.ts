/** SIGTERM under load: refused at once, answered to the end or cut at the limit, exit code 0, nothing left; also as PID 1. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allGone, jsonLines, ServerProcess } from '../support/server-process.js';

/** The server as the first process of its own namespace, as in a container. */
const AS_PID_1 = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
const STREAMS = 6;
/** More than two groups of two slots: some wait. */
const TOKENS = 300;

let scratch: string;
const servers: ServerProcess[] = [];
beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'drain-'));
});
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.kill('SIGKILL');
    await server.exited;
  }
  rmSync(scratch, { recursive: true });
});

async function start(drainSeconds: number, wrapper: readonly string[] = []): Promise<ServerProcess> {
  const environment = {
    ...{ TENSOR_PARALLEL_DEGREE: '1', SERVING_MIN_WORKERS: '2', SERVING_MAX_WORKERS: '2' },
    ...{ OPTION_MAX_ROLLING_BATCH_SIZE: '2', SERVING_DRAIN_TIMEOUT: String(drainSeconds), TMPDIR: scratch },
  };
  const server = new ServerProcess(environment, wrapper);
  servers.push(server);
  await server.ready();
  return server;
}

const stream = async (server: ServerProcess, tokens: number): Promise<Record<string, unknown>[]> => {
  const parameters = { max_new_tokens: tokens, do_sample: false, ignore_eos: true, details: true };
  const response = await server.post('/predictions/embedded', { inputs: 'Once', parameters, stream: true });
  const lines: Record<string, unknown>[] = [];
  if (response.status !== 200) return [(await response.json()) as Record<string, unknown>];
  for await (const line of jsonLines(response)) lines.push(line);
  return lines;
};

const finishReason = (lines: Record<string, unknown>[]) =>
  (lines.at(-1)?.details as { finish_reason?: string } | undefined)?.finish_reason;

/** Requests of which some run and some wait; when the signal has come, the server takes no more. */
async function drainUnderLoad(server: ServerProcess, tokens: number, kill: () => void) {
  const streams = Array.from({ length: STREAMS }, () => stream(server, tokens));
  await server.until(
    () => server.lines.filter((line) => line.msg === 'slot taken').length >= 4,
    'four requests that run',
  );
  kill();
  await server.line((line) => line.msg.startsWith('SIGTERM'));
  // Not ready, in whatever way it is asked.
  const late = await Promise.allSettled([fetch(`${server.url}/health/ready`), stream(server, 1)]);
  const [ready, predicted] = late;
  if (ready.status === 'fulfilled') expect(ready.value.status).toBe(503);
  if (predicted.status === 'fulfilled') expect(predicted.value).toMatchObject([{ code: 503 }]);
  return streams;
}

describe('SIGTERM under load', () => {
  it('lets what runs and what waits end, and leaves no process, socket or file', async () => {
    const server = await start(60);
    // Two ranks, and the process of the model's tokenizer.
    const workers = server.childPids();
    expect(workers).toHaveLength(3);
    expect(readdirSync(scratch).length).toBeGreaterThan(0);
    const streams = await drainUnderLoad(server, TOKENS, () => server.kill('SIGTERM'));
    for (const lines of await Promise.all(streams)) {
      expect(finishReason(lines)).toBe('length');
      expect(lines).toHaveLength(TOKENS);
    }
    expect(await server.exited).toBe(0);
    await allGone(workers);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('cuts what has not ended at the limit, and still ends with 0 and leaves nothing', async () => {
    const server = await start(0);
    const workers = server.childPids();
    const streams = await drainUnderLoad(server, 500, () => server.kill('SIGTERM'));
    for (const lines of await Promise.all(streams.map((one) => one.catch(() => [])))) {
      expect(finishReason(lines)).not.toBe('length');
    }
    expect(await server.exited).toBe(0);
    await allGone(workers);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('the same as PID 1', async ({ skip }) => {
    const probe = spawnSync(AS_PID_1[0]!, [...AS_PID_1.slice(1), 'true']);
    skip(probe.status !== 0, 'a PID namespace of its own needs unshare and the right to use it');
    const server = await start(60, AS_PID_1);
    const [inner] = server.childPids();
    expect(server.lines.find((line) => line.msg === 'shard worker ready')?.pid).toBe(1);
    const workers = server.childPids(inner);
    expect(workers).toHaveLength(3);
    const streams = await drainUnderLoad(server, TOKENS, () => process.kill(inner!, 'SIGTERM'));
    for (const lines of await Promise.all(streams)) expect(finishReason(lines)).toBe('length');
    expect(await server.exited).toBe(0);
    await allGone([inner!, ...workers]);
    expect(readdirSync(scratch)).toEqual([]);
  });
});
