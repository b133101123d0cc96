/** A worker group that dies and comes back does not hold up the tokens of the other group. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describedModel } from '../support/described-groups.js';
import { jsonLines, ServerProcess } from '../support/server-process.js';
import { p99 } from '../support/two-models-load.js';

const ROUNDS = 5;
const STREAMS = 8;
const TOKENS = 480;
const WARM_TOKENS = 20;
/** The group dies when this stream of the other group has come so far. */
const KILL_AT = 160;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({
    ...{ TENSOR_PARALLEL_DEGREE: '1', OPTION_THREADS_PER_RANK: '1', SERVING_RETRY_THRESHOLD: '100' },
    ...{ SERVING_MIN_WORKERS: '2', SERVING_MAX_WORKERS: '2' },
  });
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

/** When each token came; `onToken` hears of each. */
async function tokenTimes(id: string, onToken: (id: string, count: number) => void): Promise<number[]> {
  const response = await fetch(`${server.url}/predictions/embedded`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-request-id': id },
    body: JSON.stringify({
      inputs: 'Once upon a time',
      parameters: { max_new_tokens: TOKENS, do_sample: false, ignore_eos: true },
      stream: true,
    }),
  });
  const times: number[] = [];
  for await (const line of jsonLines(response)) {
    if ((line.token as { id: number } | undefined)?.id === -1) break;
    times.push(performance.now());
    onToken(id, times.length);
  }
  return times;
}

const groupOf = (id: string): number =>
  Number(server.lines.find((line) => line.msg === 'slot taken' && line.requestId === id)?.groupId);

const gaps = (times: readonly number[]): number[] =>
  times.slice(1).map((time, index) => time - times[index]!);

it('p99 of the gap between two tokens is at most three times as long as before the death', async () => {
  const quiet: number[] = [];
  const during: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const from = server.lines.length;
    const { groups } = await describedModel(server);
    const victim = groups[round % 2]!;
    let killedAtMs = Number.POSITIVE_INFINITY;
    const onToken = (id: string, count: number): void => {
      if (count !== KILL_AT || killedAtMs < Number.POSITIVE_INFINITY || groupOf(id) === victim.id) return;
      killedAtMs = performance.now();
      process.kill(victim.pids[0]!, 'SIGKILL');
    };
    const ids = Array.from({ length: STREAMS }, (_, index) => `round-${round}-${index}`);
    const times = await Promise.all(ids.map((id) => tokenTimes(id, onToken)));
    ids.forEach((id, index) => {
      const all = times[index]!.slice(WARM_TOKENS);
      if (groupOf(id) === victim.id) return;
      expect(times[index]).toHaveLength(TOKENS);
      quiet.push(...gaps(all.filter((time) => time < killedAtMs)));
      during.push(...gaps(all.filter((time) => time >= killedAtMs)));
    });
    await server.line((line) => line.msg === 'worker group died', from);
    await server.line((line) => line.msg === 'worker groups running' && line.running === 2, from);
  }
  console.info(
    `gap between tokens, p99: ${p99(quiet).toFixed(1)} ms before, ${p99(during).toFixed(1)} ms while the other group died and came back ` +
      `(${during.length} gaps)`,
  );
  expect(during.length).toBeGreaterThan(1000);
  expect(p99(during)).toBeLessThanOrEqual(3 * p99(quiet));
});
