import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Pair } from 'zeromq';
import { meshAddress } from '../../../proto/worker-launch.js';
import { BLOCK_VALUES, encodedBytes } from '../../../shard-worker/collective/block-int8.js';
import type { Collective } from '../../../shard-worker/collective/collective.js';
import { connectZeromqCollective } from '../../../shard-worker/collective/zeromq.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { describeCollective } from '../../suites/collective.suite.js';
import { type RankProcess, startRankProcess } from '../../support/rank-process.js';
import type { RankReport, RankTask } from './zeromq-rank.js';

const folders: string[] = [];
function socketFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'shardserve-collective-'));
  folders.push(folder);
  return folder;
}
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function connectAll(worldSize: number, timeoutMs: number): Promise<Collective[]> {
  const folder = socketFolder();
  return Promise.all(
    Array.from({ length: worldSize }, (_, rank) =>
      connectZeromqCollective({ rank, worldSize, socketFolder: folder, timeoutMs, connectTimeoutMs: 30_000 }),
    ),
  );
}

describeCollective('zeromq', { connect: connectAll, worldSizes: [1, 2, 3, 4, 8] });

describe('a zeromq collective that compresses', () => {
  const connectCompressed = (worldSize: number): Promise<Collective[]> => {
    const folder = socketFolder();
    return Promise.all(
      Array.from({ length: worldSize }, (_, rank) =>
        connectZeromqCollective({
          ...{ rank, worldSize, socketFolder: folder, timeoutMs: 30_000 },
          compression: 'int8',
        }),
      ),
    );
  };

  it.each([2, 3])(
    'gives %i ranks the same bits, within half a step of every summand, and sends a quarter',
    async (worldSize) => {
      const ranks = await connectCompressed(worldSize);
      const random = seededRandom(testSeed);
      for (const [op, floats] of [5, 2048, 100_001].entries()) {
        const partials = ranks.map((one) => one.allocate(`p${op}`, 'partial', floats));
        const sums = ranks.map((one) => one.allocate(`s${op}`, 'sum', floats));
        for (const partial of partials) for (let i = 0; i < floats; i++) partial[i] = random.normal() * 10;
        const before = ranks[0]!.counters.bytesSent;
        await Promise.all(
          ranks.map((one, rank) => one.allReduce({ step: 1, op }, partials[rank]!, sums[rank]!, floats)),
        );
        for (const sum of sums) expect(sum).toEqual(sums[0]);
        let worst = 0;
        for (let block = 0; block < floats; block += BLOCK_VALUES) {
          const end = Math.min(floats, block + BLOCK_VALUES);
          const halfSteps = partials.map(
            (partial) => Math.max(...partial.subarray(block, end).map(Math.abs)) / 254,
          );
          const bound = halfSteps.reduce((total, step) => total + step, 0) * 1.001 + 1e-5;
          for (let i = block; i < end; i++) {
            const exact = partials.reduce((total, partial) => total + partial[i]!, 0);
            worst = Math.max(worst, Math.abs(sums[0]![i]! - exact) / bound);
          }
        }
        expect(worst).toBeLessThanOrEqual(1);
        const sent = (ranks[0]!.counters.bytesSent - before) / (worldSize - 1);
        expect(sent).toBe(encodedBytes(floats));
        if (floats > 1000) expect(sent).toBeLessThan(floats * 4 * 0.27);
      }
      await Promise.all(ranks.map((one) => one.close()));
    },
  );

  it('refuses a peer that does not compress', async () => {
    const folder = socketFolder();
    const options = { worldSize: 2, socketFolder: folder, timeoutMs: 30_000 };
    const ranks = await Promise.all([
      connectZeromqCollective({ ...options, rank: 0, compression: 'int8' }),
      connectZeromqCollective({ ...options, rank: 1 }),
    ]);
    const outcomes = await Promise.allSettled(
      ranks.map((one) =>
        one.allReduce({ step: 1, op: 0 }, one.allocate('p', 'partial', 64), one.allocate('s', 'sum', 64), 64),
      ),
    );
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: { kind: 'OUT_OF_STEP' } });
    await Promise.all(ranks.map((one) => one.close()));
  });
});

describe('connecting a zeromq collective', () => {
  it('names the ranks that do not come, by the deadline', async () => {
    const folder = socketFolder();
    const options = { worldSize: 4, socketFolder: folder, timeoutMs: 300 };
    const failures = await Promise.allSettled([
      connectZeromqCollective({ ...options, rank: 1 }),
      connectZeromqCollective({ ...options, rank: 3 }),
    ]);
    for (const failure of failures) {
      expect(failure).toMatchObject({ status: 'rejected', reason: { kind: 'TIMEOUT', peer: 0 } });
      expect((failure as PromiseRejectedResult).reason.message).toContain('rank 0, 2 within 300 ms');
    }
  });

  it('ends with CLOSED when its signal is aborted', async () => {
    const abort = new AbortController();
    const connecting = connectZeromqCollective({
      rank: 0,
      worldSize: 2,
      socketFolder: socketFolder(),
      timeoutMs: 30_000,
      signal: abort.signal,
    });
    abort.abort();
    await expect(connecting).rejects.toMatchObject({ kind: 'CLOSED' });
  });

  it('refuses a peer of another world size', async () => {
    const folder = socketFolder();
    const options = { socketFolder: folder, timeoutMs: 30_000 };
    const second = connectZeromqCollective({ ...options, rank: 1, worldSize: 2, timeoutMs: 1000 });
    const first = connectZeromqCollective({ ...options, rank: 0, worldSize: 3 });
    const [a] = await Promise.allSettled([first, second]);
    expect(a).toMatchObject({ status: 'rejected', reason: { kind: 'OUT_OF_STEP', peer: 1 } });
  });

  it('refuses what is no frame', async () => {
    const folder = socketFolder();
    const connecting = connectZeromqCollective({
      rank: 0,
      worldSize: 2,
      socketFolder: folder,
      timeoutMs: 30_000,
    });
    const stranger = new Pair({ linger: 0 });
    stranger.connect(meshAddress(folder, 0, 1));
    await stranger.send(Buffer.alloc(200, 1));
    await expect(connecting).rejects.toMatchObject({ kind: 'OUT_OF_STEP', peer: 1 });
    stranger.close();
  });

  it('refuses a folder that others may enter, and a path too long for a socket', async () => {
    const folder = socketFolder();
    chmodSync(folder, 0o755);
    const options = { rank: 0, worldSize: 2, timeoutMs: 1000 };
    await expect(connectZeromqCollective({ ...options, socketFolder: folder })).rejects.toThrow(
      /mode 755.*700/,
    );
    await expect(
      connectZeromqCollective({ ...options, socketFolder: `/tmp/${'x'.repeat(100)}` }),
    ).rejects.toThrow(/longer than 107 bytes/);
  });

  it('refuses to use a partial twice in a row, as it may still be on its way', async () => {
    const [a, b] = await connectAll(2, 30_000);
    const partials = [a!, b!].map((one) => one.allocate('p', 'partial', 4));
    const sums = [a!, b!].map((one) => one.allocate('s', 'sum', 4));
    const reduce = (op: number) =>
      Promise.all(
        [a!, b!].map((one, rank) => one.allReduce({ step: 1, op }, partials[rank]!, sums[rank]!, 4)),
      );
    await reduce(0);
    await expect((async () => reduce(1))()).rejects.toThrow(/two all-reduces in a row/);
    // A gather and its answer prove that everyone has it.
    await Promise.all([
      a!
        .gather({ step: 1, op: 2 }, new Uint8Array(1))
        .then(() => a!.broadcast({ step: 1, op: 3 }, new Uint8Array(1))),
      b!.gather({ step: 1, op: 2 }, new Uint8Array(1)).then(() => b!.broadcast({ step: 1, op: 3 }, null)),
    ]);
    await reduce(4);
    // A broadcast alone proves nothing: rank 0 may have sent it before it asked for the frames.
    await Promise.all([
      a!.broadcast({ step: 1, op: 5 }, new Uint8Array(1)),
      b!.broadcast({ step: 1, op: 5 }, null),
    ]);
    await expect((async () => reduce(6))()).rejects.toThrow(/two all-reduces in a row/);
    expect(() => b!.allReduce({ step: 1, op: 6 }, partials[1]!, sums[1]!, 4)).toThrow(
      /two all-reduces in a row/,
    );
    await Promise.all([a!.close(), b!.close()]);
  });
});

describe('a zeromq collective between processes', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  function startRank(task: RankTask): RankProcess<RankReport> {
    const rank = startRankProcess<RankTask, RankReport>(new URL('zeromq-rank.js', import.meta.url), task);
    children.push(rank.child);
    return rank;
  }

  const startAll = (
    worldSize: number,
    task: Omit<RankTask, 'rank' | 'worldSize' | 'socketFolder'>,
    idle: number,
  ) => {
    const folder = socketFolder();
    return Array.from({ length: worldSize }, (_, rank) =>
      startRank({ ...task, rank, worldSize, socketFolder: folder, idleAtEnd: rank === idle }),
    );
  };

  it('sums across processes, and reports a killed one at once to all that wait', async () => {
    const timeoutMs = 60_000;
    const ranks = startAll(3, { timeoutMs, floats: 5000, count: 40, idleAtEnd: false }, 1);
    const expected = Array.from({ length: 40 }, (_, op) => [6 * op, 6 * op]).flat();
    for (const { next } of ranks) expect(await next('done')).toEqual({ type: 'done', sums: expected });
    ranks[1]!.child.kill('SIGKILL');
    for (const { next } of [ranks[0]!, ranks[2]!]) {
      const failed = await next('failed');
      expect(failed).toMatchObject({ type: 'failed', kind: 'PEER_LOST', peer: 1 });
    }
  });

  it('reports a stopped process by the deadline', async () => {
    const ranks = startAll(2, { timeoutMs: 1000, floats: 100, count: 3, idleAtEnd: false }, 1);
    for (const { next } of ranks) expect((await next('done')).type).toBe('done');
    ranks[1]!.child.kill('SIGSTOP');
    expect(await ranks[0]!.next('failed')).toMatchObject({ kind: 'TIMEOUT', peer: 1 });
  });
});
