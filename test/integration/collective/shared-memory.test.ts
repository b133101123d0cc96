import type { ChildProcess } from 'node:child_process';
import { closeSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { Collective } from '../../../shard-worker/collective/collective.js';
import {
  SharedMemoryCollective,
  SPLIT_FLOATS,
  sharedBytes,
} from '../../../shard-worker/collective/shared-memory.js';
import { BOARD_BYTES, Board } from '../../../shard-worker/collective/shared-memory-board.js';
import { PAGE_BYTES } from '../../../shard-worker/native/libc.js';
import { createSharedFile, mapShared } from '../../../shard-worker/native/shared-mapping.js';
import { describeCollective } from '../../suites/collective.suite.js';
import { type RankProcess, startRankProcess } from '../../support/rank-process.js';
import { RankProxy } from './shared-memory-proxy.js';
import type { RankReport, RankTask } from './shared-memory-rank.js';

const folders: string[] = [];
function socketFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'shardserve-collective-'));
  folders.push(folder);
  return folder;
}
const proxies: RankProxy[] = [];
// Runs after the suite's own, which closes the ranks.
afterEach(async () => {
  await Promise.all(proxies.splice(0).map((proxy) => proxy.end()));
});
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const connectAll =
  (spinUs: number) =>
  async (worldSize: number, timeoutMs: number): Promise<Collective[]> => {
    const fd = createSharedFile('shardserve-collective', sharedBytes(worldSize));
    const options = { worldSize, timeoutMs, spinUs, fd };
    const ranks = await Promise.all(
      Array.from({ length: worldSize }, (_, rank) => RankProxy.join({ ...options, rank })),
    );
    closeSync(fd);
    proxies.push(...ranks);
    return ranks;
  };

describeCollective('shared-memory (spinning)', { connect: connectAll(50), worldSizes: [2, 3, 4] });
describeCollective('shared-memory (sleeping at once)', { connect: connectAll(0), worldSizes: [2, 3, 8] });

describe('a shared-memory collective', () => {
  const reduceAll = (ranks: Collective[], partials: Float32Array[], sums: Float32Array[], op: number) =>
    Promise.all(
      ranks.map((one, rank) =>
        one.allReduce({ step: 1, op }, partials[rank]!, sums[rank]!, partials[rank]!.length),
      ),
    );

  it.each([SPLIT_FLOATS - 1, SPLIT_FLOATS, SPLIT_FLOATS + 17])(
    'adds %i floats as the tree of 3 ranks, whoever adds them',
    async (floats) => {
      const ranks = await connectAll(0)(3, 30_000);
      const partials = ranks.map((one) => one.allocate('p', 'partial', floats));
      const sums = ranks.map((one) => one.allocate('s', 'sum', floats));
      const expected = new Float32Array(floats);
      for (let i = 0; i < floats; i++) {
        // (1e8 + −1e8) + i, but 1e8 + (−1e8 + i) is another number.
        for (const [rank, value] of [1e8, -1e8, i].entries()) partials[rank]![i] = value;
        expected[i] = i;
      }
      await reduceAll(ranks, partials, sums, 0);
      for (const sum of sums)
        expect(Buffer.compare(Buffer.from(sum.slice().buffer), Buffer.from(expected.buffer))).toBe(0);
      await Promise.all(ranks.map((one) => one.close()));
    },
  );

  it('refuses ranks that allocated in another order', async () => {
    const ranks = await connectAll(0)(2, 30_000);
    const [a, b] = ranks.map((one, rank) => {
      const memory: Record<string, Float32Array> = {};
      for (const name of rank === 0 ? ['p', 'q', 's'] : ['q', 'p', 's']) {
        memory[name] = one.allocate(name, name === 's' ? 'sum' : 'partial', 8);
      }
      return memory;
    });
    const failures = await Promise.allSettled([
      ranks[0]!.allReduce({ step: 1, op: 0 }, a!.p!, a!.s!, 8),
      ranks[1]!.allReduce({ step: 1, op: 0 }, b!.p!, b!.s!, 8),
    ]);
    for (const failure of failures) {
      expect(failure).toMatchObject({ status: 'rejected', reason: { kind: 'OUT_OF_STEP' } });
    }
    await Promise.all(ranks.map((one) => one.close()));
  });

  it('gives back whole pages behind what is kept, and of its own memory alone', async () => {
    const fd = createSharedFile('shardserve-collective', sharedBytes(2));
    const ranks = [0, 1].map((rank) => {
      const memory = mapShared(fd, 0, BOARD_BYTES);
      const board = new Board({ memory, rank, worldSize: 2, timeoutMs: 1000, spinUs: 0 });
      return new SharedMemoryCollective({ rank, worldSize: 2, fd, board });
    });
    const pageFloats = PAGE_BYTES / 4;
    const partials = ranks.map((one) => one.allocate('p', 'partial', 3 * pageFloats).fill(1));
    ranks[0]!.discard(partials[0]!, pageFloats + 1);
    expect(partials[0]!.indexOf(0)).toBe(2 * pageFloats);
    expect(partials[0]!.lastIndexOf(1)).toBe(2 * pageFloats - 1);
    expect(partials[1]!.indexOf(0)).toBe(-1);
    closeSync(fd);
  });

  it('refuses to use a partial twice in a row, as a peer may still be reading it', async () => {
    const ranks = await connectAll(0)(2, 30_000);
    const partials = ranks.map((one) => one.allocate('p', 'partial', 4));
    const sums = ranks.map((one) => one.allocate('s', 'sum', 4));
    const exchange = async (op: number) => {
      await Promise.all(ranks.map((one) => one.gather({ step: 1, op }, new Uint8Array(1))));
      await Promise.all(
        ranks.map((one, rank) =>
          one.broadcast({ step: 1, op: op + 1 }, rank === 0 ? new Uint8Array(1) : null),
        ),
      );
    };
    await reduceAll(ranks, partials, sums, 0);
    await exchange(1);
    await reduceAll(ranks, partials, sums, 3);
    const failures = await Promise.allSettled(
      ranks.map((one, rank) => one.allReduce({ step: 1, op: 4 }, partials[rank]!, sums[rank]!, 4)),
    );
    for (const failure of failures) {
      expect((failure as PromiseRejectedResult).reason.message).toMatch(/two all-reduces in a row/);
    }
    await Promise.all(ranks.map((one) => one.close()));
  });

  it('keeps a piece in the mailbox until rank 0 has it, and rank 0 its answer until all have it', async () => {
    const ranks = await connectAll(0)(3, 30_000);
    const rounds = 200;
    const results = await Promise.all(
      ranks.map(async (one, rank) => {
        const got: number[] = [];
        for (let op = 0; op < rounds; op++) {
          if (op % 4 < 2) {
            const pieces = await one.gather({ step: 1, op }, Uint8Array.of(rank, op));
            if (pieces) got.push(...pieces.flatMap((piece) => [...piece]));
          } else {
            got.push((await one.broadcast({ step: 1, op }, rank === 0 ? Uint8Array.of(op) : null))[0]!);
          }
        }
        return got;
      }),
    );
    const ops = Array.from({ length: rounds }, (_, op) => op);
    expect(results[0]).toEqual(ops.flatMap((op) => (op % 4 < 2 ? [0, op, 1, op, 2, op] : [op])));
    expect(results[1]).toEqual(ops.filter((op) => op % 4 >= 2));
    expect(results[2]).toEqual(results[1]);
    await Promise.all(ranks.map((one) => one.close()));
  });
});

describe('a shared-memory collective between processes', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  function startRank(task: RankTask): RankProcess<RankReport> {
    const rank = startRankProcess<RankTask, RankReport>(
      new URL('shared-memory-rank.js', import.meta.url),
      task,
    );
    children.push(rank.child);
    return rank;
  }

  const TASK = {
    timeoutMs: 60_000,
    spinUs: 50,
    floats: 5000,
    count: 40,
    idleAtEnd: false,
    failsToOpen: false,
  };

  const startAll = (worldSize: number, task: Partial<RankTask>, idle: number, failing = -1) => {
    const folder = socketFolder();
    return Array.from({ length: worldSize }, (_, rank) =>
      startRank({
        ...TASK,
        ...task,
        rank,
        worldSize,
        socketFolder: folder,
        idleAtEnd: rank === idle,
        failsToOpen: rank === failing,
      }),
    );
  };

  const sumsOf = (worldSize: number): number[] =>
    Array.from({ length: TASK.count }, (_, op) => (op * worldSize * (worldSize + 1)) / 2).flatMap((sum) => [
      sum,
      sum,
    ]);

  it.each([5000, 3 * SPLIT_FLOATS])(
    'sums %i floats, leaves nothing in /dev/shm, and reports a killed process to all that wait',
    async (floats) => {
      const before = readdirSync('/dev/shm');
      const ranks = startAll(3, { floats }, 1);
      for (const { next } of ranks) {
        expect(await next('connected')).toMatchObject({ isShared: true, fallback: null });
        const done = (await next('done')) as Extract<RankReport, { type: 'done' }>;
        expect(done.sums).toEqual(sumsOf(3));
        expect(new Set(done.memory)).toEqual(new Set(['/memfd:shardserve-collective (deleted)']));
      }
      ranks[1]!.child.kill('SIGKILL');
      for (const { next } of [ranks[0]!, ranks[2]!]) {
        expect(await next('failed')).toMatchObject({ type: 'failed', kind: 'PEER_LOST', peer: 1 });
      }
      expect(
        readdirSync('/dev/shm').filter((file) => !before.includes(file) && file.includes('shardserve')),
      ).toEqual([]);
    },
  );

  it('reports a stopped process by the deadline', async () => {
    const ranks = startAll(2, { timeoutMs: 1000, count: 3 }, 1);
    for (const { next } of ranks) {
      await next('connected');
      expect((await next('done')).type).toBe('done');
    }
    ranks[1]!.child.kill('SIGSTOP');
    expect(await ranks[0]!.next('failed')).toMatchObject({ kind: 'TIMEOUT', peer: 1 });
  });

  it.each([0, 1])('goes on over ZeroMQ on all ranks when rank %i cannot have the memory', async (failing) => {
    for (const { next } of startAll(2, {}, 1, failing)) {
      expect(await next('connected')).toMatchObject({
        isShared: false,
        fallback: `rank ${failing}: no such call`,
      });
      expect(await next('done')).toMatchObject({ sums: sumsOf(2) });
    }
  });
});
