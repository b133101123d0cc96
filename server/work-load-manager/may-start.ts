/**
 * How many jobs of the queue a group may take, so that the groups carry the same load.
 *
 * In      the group, those that run, the queue
 * Out     jobs
 */
import type { ModelConfig } from '../config/config.js';
import { systemClock } from '../jobs/clock.js';
import { fairShare } from '../jobs/fair-share.js';
import type { JobQueue } from '../jobs/job-queue.js';
import type { WorkerGroup } from './worker-group.js';

/** A job this old is anybody's: the group whose turn it is may hang. */
const MAX_RESERVED_MS = 250;

/** Jobs that have left the queue for a group and are not begun. */
export const aheadOf = (groups: readonly WorkerGroup[]): number =>
  groups.reduce((sum, { load }) => sum + (load?.ahead ?? 0), 0);

export function mayStart(
  group: WorkerGroup,
  running: readonly WorkerGroup[],
  queue: JobQueue,
  batching: ModelConfig['batching'],
): number {
  const first = queue.waiting[0];
  const isOld = first !== undefined && systemClock.nowMs() - first.queuedAtMs > MAX_RESERVED_MS;
  // A dynamic batch is taken as a whole.
  if (running.length < 2 || isOld || batching === 'dynamic') return Number.POSITIVE_INFINITY;
  const takers = running.map((one) => one.load ?? { running: 0, room: 0 });
  return fairShare(takers, running.indexOf(group), queue.length);
}
