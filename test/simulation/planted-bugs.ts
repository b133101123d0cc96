/**
 * Bugs on purpose, of the kinds that servers of this class have had: a simulation that does not find them is worth nothing.
 *
 * In      a name
 * Out     how to take it out again
 */

import { Sequence } from '../../server/batching/sequence.js';
import { SlotTable } from '../../server/batching/slot-table.js';
import { Coordinator } from '../../server/coordinator/coordinator.js';
import { Watchdog } from '../../server/coordinator/watchdog.js';
import type { Job } from '../../server/jobs/job.js';
import { JobQueue } from '../../server/jobs/job-queue.js';
import { SimulatedRanks } from './simulated-ranks.js';

type Prototype = Record<string, (...args: never[]) => unknown>;

/** Replaces a method; `make` gets the real one. */
function replaced(owner: unknown, name: string, make: (real: (...args: never[]) => unknown) => unknown) {
  return (): (() => void) => {
    const prototype = owner as Prototype;
    const real = prototype[name]!;
    prototype[name] = make(real) as (...args: never[]) => unknown;
    return () => {
      prototype[name] = real;
    };
  };
}

export const PLANTS: Readonly<Record<string, () => () => void>> = {
  /** Every twentieth slot that is released is forgotten. */
  'slot-leak': replaced(SlotTable.prototype, 'release', (real) => {
    let count = 0;
    return function (this: SlotTable, ...args: never[]) {
      if (++count % 20 !== 0) real.apply(this, args);
    };
  }),
  /** What comes back from a dead group is queued twice where it is alone. */
  'runs-twice': replaced(JobQueue.prototype, 'putBack', (real) => {
    return function (this: JobQueue, jobs: readonly Job[]) {
      const [only, another] = jobs;
      if (only !== undefined && another === undefined) {
        // Once it does not hear of the job's end: an assertion of the queue would be thrown where nobody catches it.
        const { signal } = only;
        Object.defineProperty(signal, 'addEventListener', { configurable: true, value: () => {} });
        real.call(this, jobs as never);
        delete (signal as Partial<AbortSignal>).addEventListener;
      }
      real.call(this, jobs as never);
    };
  }),
  /** A sequence that goes on has not counted the tokens it has told. */
  'forgets-tokens': replaced(Sequence.prototype, 'preempt', (real) => {
    return function (this: Sequence) {
      real.call(this);
      if (this.newTokens > 3) this.inputIds = this.job.promptIds;
    };
  }),
  /** One that goes on in the middle of its answer does so without its mask. */
  'forgets-mask': replaced(Sequence.prototype, 'plan', (real) => {
    return function (this: Sequence, ...args: never[]) {
      const isResumed = this.newTokens > 0 && this.promptLeft > 0;
      const { mask, ...row } = real.apply(this, args) as ReturnType<Sequence['plan']>;
      return isResumed || mask === undefined ? row : { ...row, mask };
    };
  }),
  /** Right guesses are not counted in the rows that a sequence has. */
  'forgets-guesses': replaced(Sequence.prototype, 'rowApplied', (real) => {
    return function (this: Sequence) {
      const { decodesLeft } = this;
      real.call(this);
      this.decodesLeft = Math.max(this.decodesLeft, decodesLeft);
    };
  }),
  /** Once a step has begun, nobody looks after the ranks any more. */
  'no-watchdog': replaced(Watchdog.prototype, 'stepStarted', () => {
    return function (this: Watchdog) {
      this.stop();
    };
  }),
  /** A kill from outside is taken for the request's that ran. */
  'blames-outside': replaced(SimulatedRanks.prototype, 'killerOf', () => () => ({ by: 'unknown' })),
  /** A group that stops leaves its ranks to themselves. */
  orphans: replaced(Coordinator.prototype, 'stop', (real) => {
    let count = 0;
    return function (this: Coordinator) {
      return ++count % 7 === 0 ? Promise.resolve() : real.call(this);
    };
  }),
};

/** @returns how to take it out */
export function plant(name: string): () => void {
  const make = PLANTS[name];
  if (make === undefined)
    throw new Error(`${name} is no planted bug; there are ${Object.keys(PLANTS).join(', ')}`);
  return make();
}
