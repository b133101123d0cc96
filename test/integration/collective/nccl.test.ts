/**
 * Sums by NCCL between processes, over a stub of its library and of CUDA's runtime that is compiled here (test/support/gpu-stub.c): every
 * call with its arguments as C has them, the thread that joins, peers that die or hang.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { twoRanks } from '../../device/device-steps.js';
import { compileGpuStub } from '../../support/gpu-stub.js';
import type { RankReport, RankTask } from '../../support/nccl-rank.js';
import { type RankProcess, startRankProcess } from '../../support/rank-process.js';

const stub = compileGpuStub();
const { folder } = stub;
const scratch: string[] = [];
afterAll(() => {
  stub.remove();
  for (const one of scratch) rmSync(one, { recursive: true, force: true });
});
const why = stub.why === null ? '' : ` (skipped: ${stub.why})`;

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

interface GroupOptions {
  worldSize: number;
  task?: Partial<RankTask>;
  /** Environment of the stub, by rank. */
  told?: Record<number, Record<string, string>>;
}

function startGroup({ task, told = {}, worldSize }: GroupOptions): RankProcess<RankReport>[] {
  const socketFolder = mkdtempSync(path.join(tmpdir(), 'shardserve-nccl-'));
  scratch.push(socketFolder);
  return Array.from({ length: worldSize }, (_, rank) => {
    const whole = {
      rank,
      worldSize,
      socketFolder,
      folder,
      gpu: rank,
      timeoutMs: 30_000,
      count: 5,
      idleAtEnd: false,
    };
    const env = { STUB_FOLDER: socketFolder, ...told[rank] };
    const started = startRankProcess<RankTask, RankReport>(
      new URL('../../support/nccl-rank.js', import.meta.url),
      { ...whole, ...task },
      env,
    );
    children.push(started.child);
    return started;
  });
}

describe.skipIf(stub.why !== null)(`NCCL${why}`, () => {
  it('adds between processes, in the stream, and ends the sum of a rank that was killed', async () => {
    const ranks = startGroup({ worldSize: 3, told: { 1: { STUB_HANG: '5' } }, task: { timeoutMs: 120_000 } });
    const [first] = await Promise.all(ranks.map(({ next }) => next('joined')));
    expect(first).toEqual({
      ...{ type: 'joined', isLinked: true },
      lines: ['partial sums of 3 ranks are added between their GPUs by NCCL 2.29.7'],
    });
    for (const { next } of ranks) {
      // 1 + 2 + 3 = 6, then three times as much each time.
      expect(await next('done')).toMatchObject({
        ...{ type: 'done', values: [6 * 81, 6 * 81] },
        counters: { allReduces: 5, gathers: 0, broadcasts: 0, bytesSent: 5 * 2 * 4000 },
      });
    }
    // All are in the sixth sum, which rank 1's GPU never begins.
    ranks[1]!.child.kill('SIGKILL');
    for (const rank of [0, 2]) {
      expect(await ranks[rank]!.next('failed')).toMatchObject({ kind: 'PEER_LOST', peer: 1 });
    }
  });

  it('is right in the step of check:device, which says so', async () => {
    const socketFolder = mkdtempSync(path.join(tmpdir(), 'shardserve-nccl-'));
    scratch.push(socketFolder);
    const told = process.env.STUB_FOLDER;
    process.env.STUB_FOLDER = socketFolder;
    try {
      const { note, verdict } = await twoRanks(folder);
      expect([verdict, note]).toEqual(['right', expect.stringMatching(/NCCL.*; [\d.]+ µs a sum of 4 KB$/)]);
    } finally {
      if (told === undefined) delete process.env.STUB_FOLDER;
      else process.env.STUB_FOLDER = told;
    }
  });

  it.each([
    [
      'two ranks on a GPU',
      { task: { gpu: 2 } },
      'NCCL ncclCommInitRank: invalid usage (5): Duplicate GPU detected',
    ],
    [
      'a rank that hangs',
      { told: { 1: { STUB_HANG: 'init' } }, task: { joinTimeoutMs: 500 } },
      'rank 0 of 2: the GPUs did not join within 500 ms',
    ],
  ] as [string, Partial<GroupOptions>, string][])(
    'goes by way of the host: %s',
    async (_, options, reason) => {
      const ranks = startGroup({ worldSize: 2, ...options });
      const joined = await Promise.all(ranks.map(({ next }) => next('joined')));
      expect(joined.map((one) => one.type === 'joined' && one.isLinked)).toEqual([false, false]);
      expect(joined[0]).toMatchObject({
        lines: [`partial sums are added by way of the host: rank 0: ${reason}`],
      });
    },
  );
});
