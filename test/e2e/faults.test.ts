/** A sample of the faults that `npm run faults` makes, and how they are told. The whole is in long/. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FaultMatrix } from '../faults/fault-matrix.js';
import type { FaultyServer } from '../faults/faulty-server.js';
import { parsePrometheus, sampleValue } from '../support/prometheus-text.js';

interface Described {
  models: { workerGroups: { workers: { ranks: { slowerThanPeers?: number }[] }[] }[] }[];
}

let matrix: FaultMatrix;
let faulty: FaultyServer;
beforeAll(async () => {
  matrix = await FaultMatrix.start('shm', 2);
  faulty = matrix.faulty;
});
afterAll(() => matrix?.stop());

const GREEDY = { do_sample: false, ignore_eos_token: true };
const ask = (tokens: number) =>
  faulty.server.post('/predictions/embedded', {
    inputs: 'Once upon a time',
    parameters: { ...GREEDY, max_new_tokens: tokens },
  });

it.each([
  ['kill', 'prefill'],
  ['garbage', 'decode'],
  ['partial', 'queued'],
] as const)(
  '%s × %s: every request, however it was asked, has the answer of an undisturbed run',
  async (fault, state) => {
    const result = await matrix.run(fault, state);
    const all = { stream: 2, whole: 2, asynchronous: 2 };
    expect(result).toMatchObject({
      asked: all,
      answered: all,
      wrong: 0,
      doubled: 0,
      problems: [],
    });
    expect(result.deaths).toHaveLength(1);
  },
);

it('a rank that is slow is named: in the log, in describe and by a metric, until it keeps up again', async () => {
  const { server } = faulty;
  const from = server.lines.length;
  const slow = { id: 'slow', rank: 1, fault: 'slow', when: 'any', begun: 0 } as const;
  const [struck, first] = [faulty.strike(slow), ask(20)];
  await struck;
  expect((await first).status).toBe(200);
  const isSlow = ({ msg }: { msg?: string }): boolean => msg?.startsWith('rank 1 is busy ') ?? false;
  while (!server.lines.slice(from).some(isSlow)) expect((await ask(20)).status).toBe(200);
  const [described] = (await (await fetch(`${server.url}/models/embedded`)).json()) as [Described];
  const ranks = described.models[0]!.workerGroups[0]!.workers[0]!.ranks;
  expect(ranks.map(({ slowerThanPeers = 0 }) => slowerThanPeers >= 2)).toEqual([false, true]);
  const metrics = parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
  const labels = { model: 'embedded', version: '', group: '0', rank: '1' };
  expect(sampleValue(metrics, 'shardserve_rank_slowness', labels)).toBeGreaterThanOrEqual(2);
  faulty.relent();
  const keepsUp = ({ msg }: { msg?: string }): boolean => msg === 'rank 1 keeps up again';
  while (!server.lines.slice(from).some(keepsUp)) expect((await ask(100)).status).toBe(200);
});

it('a rank that the kernel ends for want of memory is told as such, with what to change', async ({
  skip,
}) => {
  const why = faulty.missing('exhaust-memory');
  if (why !== null) skip(why);
  const from = faulty.server.lines.length;
  const struck = faulty.strike({ id: 'memory', rank: 0, fault: 'exhaust-memory', when: 'decode', begun: 0 });
  const [answer] = await Promise.all([ask(60), struck]);
  expect(answer.status).toBe(200);
  const died = await faulty.server.line(({ msg }) => msg === 'worker group died', from);
  expect((died.err as { message: string }).message).toMatch(
    /^rank 0 was killed by SIGKILL, .*for want of memory .*: lower option.kv_cache_memory_mb/,
  );
});

it('while an idle rank hangs /ping says so, and is Healthy again once it was replaced', async () => {
  const { server } = faulty;
  const health = async (): Promise<string> => {
    const body = (await (await fetch(`${server.url}/ping`)).json()) as Record<string, { status: string }>;
    return body.embedded!.status;
  };
  while ((await health()) !== 'Healthy');
  const from = server.lines.length;
  process.kill(server.workerPids[1]!, 'SIGSTOP');
  // Before anything has died of it.
  while ((await health()) === 'Healthy')
    expect(server.lines.slice(from).some(({ msg }) => msg === 'worker group died')).toBe(false);
  const died = await server.line(({ msg }) => msg === 'worker group died', from);
  expect((died.err as { message: string }).message).toMatch(/^rank 1 hangs: its process \d+ is stopped/);
  await server.line(({ msg, running }) => msg === 'worker groups running' && running === 1, from);
  expect(await health()).toBe('Healthy');
});
