/** What a batch loop is made of: parts that the engine chooses, and who wants to see it work. */
import type { LateMask, Step, StepResult } from '../../proto/control.js';
import type { Clock } from '../jobs/clock.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import type { JobQueue } from '../jobs/job-queue.js';
import type { SlotFreed, WorkObserver } from '../jobs/work-observer.js';
import type { Batcher } from './batcher.js';
import type { ChunkBudget } from './chunk-budget.js';
import type { DraftOptions } from './drafts.js';
import type { PrefixCache } from './prefix-cache.js';
import type { DeathLimits } from './resumption.js';
import type { SlotTable } from './slot-table.js';
import type { TokenTexts } from './token-texts.js';

/** A step without its number, which the coordinator gives. */
export type StepPlan = Omit<Step, 'step'>;

/** What the loop needs of a coordinator. */
export interface SteppedGroup {
  /** Steps are run in the order of the calls; rejects when the group has failed. */
  step(plan: StepPlan): Promise<StepResult>;
  /**
   * Masks of rows that are in steps without (Row.maskFollows), of each sequence in the order of its rows. Absent: they cannot follow, and
   * constrained sequences do not run ahead.
   */
  tellMasks?(masks: LateMask[]): void;
  /** Resolves when the group is lost, also while no step runs. */
  readonly failed: Promise<unknown>;
}

export interface BatchLoopOptions {
  group: SteppedGroup;
  queue: JobQueue<GenerationJob>;
  batcher: Batcher;
  slots: SlotTable;
  /** Keeps these slots warm; absent: every prompt is computed whole. */
  prefixCache?: PrefixCache;
  chunkBudget: ChunkBudget;
  texts: TokenTexts;
  /** Tokens are guessed ahead; absent: none, and sequences run ahead instead. */
  drafts?: DraftOptions;
  /** An embedding model: a prompt runs in one step. */
  wholePrompts?: boolean;
  clock: Clock;
  /** Deaths of its group that a job survives: it goes on in the next one, or in another; absent: none, it ends with the group. */
  deathLimits?: DeathLimits;
  /** Jobs that this loop may start now, when several loops share the queue; absent: all. */
  mayStart?: () => number;
  /** Nothing runs and no step is in flight (true), or there is something again. A new loop is idle. */
  onIdle?: (idle: boolean) => void;
  onJobStarted?: (job: GenerationJob) => void;
  onSlotFreed?: (event: SlotFreed) => void;
  observer?: Pick<
    WorkObserver,
    'jobStarted' | 'firstToken' | 'prefixLookedUp' | 'nextToken' | 'stepDone' | 'jobResumed' | 'draftsTried'
  >;
}
