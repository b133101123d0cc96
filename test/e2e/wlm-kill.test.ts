/** Shard workers that are killed under load: their group comes back, the other serves on; too many deaths fail the model. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describedModel } from '../support/described-groups.js';
import { allGone, jsonLines, ServerProcess } from '../support/server-process.js';

const TOKENS = 300;
const STREAMS = 6;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({
    TENSOR_PARALLEL_DEGREE: '2',
    SERVING_MIN_WORKERS: '2',
    SERVING_MAX_WORKERS: '2',
    SERVING_RETRY_THRESHOLD: '2',
    // What goes on instead: resumed-streams.test.ts.
    OPTION_REQUEST_RETRIES: '0',
  });
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

interface Stream {
  id: string;
  /** All lines; rejects when the connection breaks. */
  lines: Promise<Record<string, unknown>[]>;
}

/** Resolves when the first token has come. */
async function startStream(id: string, tokens = TOKENS): Promise<Stream> {
  const response = await fetch(`${server.url}/predictions/embedded`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-request-id': id },
    body: JSON.stringify({
      inputs: 'Once upon a time',
      parameters: { max_new_tokens: tokens, do_sample: false, ignore_eos: true, details: true },
      stream: true,
    }),
  });
  expect(response.status).toBe(200);
  const reader = jsonLines(response);
  const first = (await reader.next()).value as Record<string, unknown>;
  const rest = async (): Promise<Record<string, unknown>[]> => {
    const lines = [first];
    for await (const line of reader) lines.push(line);
    return lines;
  };
  return { id, lines: rest() };
}

const groupOf = (id: string): number =>
  Number(server.lines.find((line) => line.msg === 'slot taken' && line.requestId === id)?.groupId);

const killRank = async (groupId: number, rank: number): Promise<void> => {
  const { groups } = await describedModel(server);
  process.kill(groups.find((group) => group.id === groupId)!.pids[rank]!, 'SIGKILL');
};

const bothRun = (from: number) =>
  server.line((line) => line.msg === 'worker groups running' && line.running === 2, from);

const finishReason = (lines: Record<string, unknown>[]) =>
  (lines.at(-1)?.details as { finish_reason?: string } | undefined)?.finish_reason;

describe('a shard worker killed under load', () => {
  it('ends the streams of its group with an answer, none of the other, and the group comes back', async () => {
    const streams = await Promise.all(
      Array.from({ length: STREAMS }, (_, index) => startStream(`first-${index}`)),
    );
    const victims = streams.filter(({ id }) => groupOf(id) === 1);
    expect(victims).toHaveLength(STREAMS / 2);
    const from = server.lines.length;
    await killRank(1, 1);
    const died = await server.line((line) => line.msg === 'worker group died', from);
    expect(died).toMatchObject({ groupId: 1, deaths: 1, code: 'WORKER_FAILED' });
    for (const { id, lines } of streams) {
      const all = await lines;
      if (groupOf(id) === 1) expect(finishReason(all), id).toBe('error');
      else {
        expect(finishReason(all), id).toBe('length');
        expect(all).toHaveLength(TOKENS);
      }
    }
    await bothRun(from);
    const after = await Promise.all(
      Array.from({ length: STREAMS }, (_, index) => startStream(`after-${index}`, 20)),
    );
    for (const { lines } of after) expect(finishReason(await lines)).toBe('length');
    expect(new Set(after.map(({ id }) => groupOf(id)))).toEqual(new Set([1, 2]));
  });

  it('more often than retry_threshold fails the model: what runs ends well, the rest is refused and told why', async () => {
    let from = server.lines.length;
    await killRank(2, 0);
    await server.line((line) => line.msg === 'worker group died' && line.groupId === 2, from);
    await bothRun(from);
    const streams = await Promise.all(
      Array.from({ length: STREAMS }, (_, index) => startStream(`last-${index}`, 200)),
    );
    from = server.lines.length;
    await killRank(1, 0);
    await server.line((line) => line.msg === 'worker group failed', from);
    const refused = await server.post('/predictions/embedded', { inputs: 'The king' });
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({
      type: 'WlmException',
      message: 'Model is not ready: embedded',
    });
    for (const { id, lines } of streams) {
      expect(finishReason(await lines), id).toBe(groupOf(id) === 1 ? 'error' : 'length');
    }
    const why = /3 deaths of worker groups in 10 minutes, retry_threshold is 2.*rank 0 was killed by SIGKILL/;
    const ping = await fetch(`${server.url}/ping`);
    expect(ping.status).toBe(500);
    expect(await ping.json()).toMatchObject({
      embedded: { status: 'FAILED', reason: expect.stringMatching(why) },
    });
    expect(await describedModel(server)).toMatchObject({
      status: 'FAILED',
      failure: { code: 'WORKER_FAILED', message: expect.stringMatching(why) },
    });
  });

  it('a failed model can be unregistered and registered again, and nothing of it is left', async () => {
    const pids = server.lines
      .filter((line) => line.msg === 'shard worker ready')
      .map((line) => Number(line.workerPid));
    const gone = await fetch(`${server.url}/models/embedded`, { method: 'DELETE' });
    expect(gone.status).toBe(200);
    await allGone(pids);
    const again = await fetch(`${server.url}/models?url=models/embedded`, { method: 'POST' });
    expect(await again.json()).toEqual({ status: 'Model "embedded" registered.' });
    expect((await fetch(`${server.url}/ping`)).status).toBe(200);
    const { lines } = await startStream('again', 5);
    expect(finishReason(await lines)).toBe('length');
  });
});
