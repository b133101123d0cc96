/**
 * One rank of a shared-memory collective as a process of its own, forked by shared-memory.test.ts: connects, does
 * the all-reduces it is told, and reports. Messages by the fork channel.
 */
import { readFileSync } from 'node:fs';
import { SharedMemoryCollective } from '../../../shard-worker/collective/shared-memory.js';
import { connectSharedMemoryCollective } from '../../../shard-worker/collective/shared-memory-group.js';

export interface RankTask {
  rank: number;
  worldSize: number;
  socketFolder: string;
  timeoutMs: number;
  spinUs: number;
  floats: number;
  /** All-reduces to run; the rank then waits in one more, for a peer that never comes to it. */
  count: number;
  /** Stops instead of waiting in one more. */
  idleAtEnd: boolean;
  /** The calls that make and open the memory: this rank's fail. */
  failsToOpen: boolean;
}

export type RankReport =
  | { type: 'connected'; isShared: boolean; fallback: string | null }
  | { type: 'done'; sums: number[]; memory: string[] }
  | { type: 'failed'; kind: string; peer: number | null; message: string };

const report = (message: RankReport): void => {
  process.send?.(message);
};

/** Maps of this process that are shared memory of a collective. */
function sharedMaps(): string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return maps
    .filter((line) => line.includes('shardserve-collective'))
    .map((line) => line.replace(/^.* \//, '/'));
}

async function main(task: RankTask): Promise<void> {
  let fallback: string | null = null;
  const fail = (): number => {
    throw new Error('no such call');
  };
  const collective = await connectSharedMemoryCollective({
    ...task,
    onFallback: (reason) => {
      fallback = reason;
    },
    ...(task.failsToOpen ? { createFile: fail, openFile: fail } : {}),
  });
  report({ type: 'connected', isShared: collective instanceof SharedMemoryCollective, fallback });
  const partials = ['a', 'b'].map((buffer) => collective.allocate(buffer, 'partial', task.floats));
  const sum = collective.allocate('sum', 'sum', task.floats);
  const sums: number[] = [];
  const reduce = (op: number): void | Promise<void> =>
    collective.allReduce({ step: 1, op }, partials[op % 2]!, sum, task.floats);
  for (let op = 0; op < task.count; op++) {
    partials[op % 2]!.fill(op * (task.rank + 1));
    await reduce(op);
    sums.push(sum[0]!, sum[task.floats - 1]!);
  }
  report({ type: 'done', sums, memory: sharedMaps() });
  if (task.idleAtEnd) return;
  try {
    await reduce(task.count);
  } catch (error) {
    const { kind, message, peer } = error as { kind: string; peer: number | null; message: string };
    report({ type: 'failed', kind, peer, message });
  }
  await collective.close();
  process.disconnect();
}

process.once('message', (task: RankTask) => {
  main(task).catch((error: unknown) => {
    const { message } = error as Error;
    report({ type: 'failed', kind: 'UNEXPECTED', peer: null, message });
    process.exit(1);
  });
});
