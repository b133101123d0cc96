/** What both ends of a limited process (limited-process.ts, limited-task.ts) know of a machine that has other work. */
import { ServingError } from '../../../proto/errors.js';

/** A task may last so many times its limit of processor time by the clock, each time it is begun. */
export const MOST_SLACK = 16;

/** Not the client's fault: it may come again. */
export const busyMachine = (limitMs: number, waitedMs: number): ServingError =>
  new ServingError(
    'STEP_TIMEOUT',
    `The machine is busy: in ${Math.round(waitedMs)} ms a task got less of the processor than its limit, ${limitMs} ms`,
  );
