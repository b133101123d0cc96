/**
 * The process that runs the cases: a crash, a hang or memory without end takes it, and not who watches.
 *
 * In      messages: a target, the seed of the run, the first case and how many; or whether to tell of each case before it runs. One task
 *         after the other
 * Out     messages: that it is ready, cases begun, findings, the end of each task
 */
import { seededRandom } from '../fixtures/seeded-random.js';
import { ALL_TARGETS } from './all-targets.js';
import { PLANTED_TARGETS } from './targets/planted.js';

export interface FuzzTask {
  target: string;
  seed: number;
  from: number;
  count: number;
  /** To find which case it was. */
  oneByOne: boolean;
}

export type FuzzReport =
  | { kind: 'ready' }
  | { kind: 'at'; index: number; rss: number }
  | { kind: 'finding'; index: number; error: string }
  | { kind: 'done'; rss: number; expected: number };

/** Processor time. */
const SLOW_MS = 2000;
const EVERY_MS = 200;
/** More of one kind are one bug. */
const MOST_FINDINGS = 20;

export const seedOfCase = (seed: number, index: number): number => Math.imul(seed, 0x9e3779b1) + index;

const tell = (report: FuzzReport): Promise<void> =>
  new Promise((resolve) => {
    process.send!(report, () => resolve());
  });

process.on('message', async ({ count, from, oneByOne, seed, target: name }: FuzzTask) => {
  const target = [...ALL_TARGETS, ...PLANTED_TARGETS].find((one) => one.name === name)!;
  let findings = 0;
  let expected = 0;
  let toldMs = Number.NEGATIVE_INFINITY;
  let rss = 0;
  for (let index = from; index < from + count && findings < MOST_FINDINGS; index++) {
    const nowMs = performance.now();
    if (oneByOne || nowMs - toldMs >= EVERY_MS) {
      toldMs = nowMs;
      rss = Math.max(rss, process.memoryUsage.rss());
      await tell({ kind: 'at', index, rss });
    }
    const before = process.cpuUsage();
    try {
      await target.run(seededRandom(seedOfCase(seed, index)));
    } catch (error) {
      if (target.isExpected(error)) expected += 1;
      else {
        findings += 1;
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        const cause =
          error instanceof Error && error.cause instanceof Error ? `\ncaused by ${error.cause.stack}` : '';
        await tell({ kind: 'finding', index, error: `${text}${cause}`.slice(0, 3000) });
      }
    }
    const { system, user } = process.cpuUsage(before);
    const ms = (system + user) / 1000;
    if (ms > SLOW_MS) {
      findings += 1;
      await tell({ kind: 'finding', index, error: `slow: ${Math.round(ms)} ms of processor time` });
    }
  }
  await tell({ kind: 'done', rss: Math.max(rss, process.memoryUsage.rss()), expected });
});
process.on('disconnect', () => process.exit());
await tell({ kind: 'ready' });
