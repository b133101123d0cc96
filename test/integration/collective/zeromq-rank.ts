/**
 * One rank of a ZeroMQ collective as a process of its own, forked by zeromq.test.ts: connects, does the
 * all-reduces it is told, and reports. Messages by the fork channel.
 */
import { connectZeromqCollective } from '../../../shard-worker/collective/zeromq.js';

export interface RankTask {
  rank: number;
  worldSize: number;
  socketFolder: string;
  timeoutMs: number;
  floats: number;
  /** All-reduces to run; the rank then waits in one more, for a peer that never comes to it. */
  count: number;
  /** Stops instead of waiting in one more. */
  idleAtEnd: boolean;
}

export type RankReport =
  | { type: 'connected' }
  | { type: 'done'; sums: number[] }
  | { type: 'failed'; kind: string; peer: number | null; message: string; waitedMs: number };

const report = (message: RankReport): void => {
  process.send?.(message);
};

async function main(task: RankTask): Promise<void> {
  const collective = await connectZeromqCollective(task);
  report({ type: 'connected' });
  const partials = ['a', 'b'].map((buffer) => collective.allocate(buffer, 'partial', task.floats));
  const sum = collective.allocate('sum', 'sum', task.floats);
  const sums: number[] = [];
  for (let op = 0; op < task.count; op++) {
    partials[op % 2]!.fill(op * (task.rank + 1));
    await collective.allReduce({ step: 1, op }, partials[op % 2]!, sum, task.floats);
    sums.push(sum[0]!, sum[task.floats - 1]!);
  }
  report({ type: 'done', sums });
  if (task.idleAtEnd) return;
  const startMs = performance.now();
  try {
    const op = task.count;
    await collective.allReduce({ step: 1, op }, partials[op % 2]!, sum, task.floats);
  } catch (error) {
    const { kind, peer, message } = error as { kind: string; peer: number | null; message: string };
    report({ type: 'failed', kind, peer, message, waitedMs: performance.now() - startMs });
  }
  await collective.close();
  process.disconnect();
}

process.once('message', (task: RankTask) => {
  main(task).catch((error: unknown) => {
    const { message } = error as Error;
    report({ type: 'failed', kind: 'UNEXPECTED', peer: null, message, waitedMs: 0 });
    process.exit(1);
  });
});
