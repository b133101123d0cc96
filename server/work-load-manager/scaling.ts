/**
 * When a pool starts or stops a worker group.
 *
 * In      the pool's limits, its groups, its backlog
 * Out     the next thing to do, one group at a time; when to ask again though nothing changes
 * Limits  never below min, never above max; one group starts at a time
 * Pure    nowMs is an argument
 * Source  DJLServing 0.36, WorkLoadManager: one more worker when none runs, or when the queue is longer than two batches
 *
 * Backlog are the jobs that no group has room for: those about to be taken are no reason to start another group.
 */
import type { GroupState } from './worker-group.js';

export interface ScalingState {
  readonly minGroups: number;
  readonly maxGroups: number;
  readonly groups: readonly ScaledGroup[];
  /** Jobs in the queue. */
  readonly waiting: number;
  /** Jobs in the queue that no running group has room for. */
  readonly backlog: number;
  readonly batchSize: number;
  readonly maxIdleMs: number;
}

export interface ScaledGroup {
  readonly id: number;
  readonly state: GroupState;
  /** null: it does not run, or has something to do. */
  readonly idleSinceMs: number | null;
}

export type ScalingAction =
  | { readonly kind: 'start'; readonly why: 'below minimum' | 'no group' | 'backlog' }
  | { readonly kind: 'stop'; readonly id: number; readonly why: 'above maximum' | 'idle' };

/** States of a group that counts against min and max. */
const LIVE: readonly GroupState[] = ['starting', 'running', 'restarting'];

export const isLive = (group: { readonly state: GroupState }): boolean => LIVE.includes(group.state);

/** null: all is as it should be. */
export function nextScaling(state: ScalingState, nowMs: number): ScalingAction | null {
  const { backlog, batchSize, maxGroups, minGroups, waiting } = state;
  const live = state.groups.filter(isLive);
  if (live.length > maxGroups) return { kind: 'stop', id: mostDispensable(live).id, why: 'above maximum' };
  const mayStart = live.length < maxGroups && !live.some((group) => group.state === 'starting');
  if (mayStart && live.length < minGroups) return { kind: 'start', why: 'below minimum' };
  if (mayStart && waiting > 0 && live.length === 0) return { kind: 'start', why: 'no group' };
  if (mayStart && backlog > 2 * batchSize) return { kind: 'start', why: 'backlog' };
  const dueMs = scalingDueAtMs(state);
  if (dueMs !== null && dueMs <= nowMs) {
    return { kind: 'stop', id: longestIdle(live)!.id, why: 'idle' };
  }
  return null;
}

/** When a group will have been idle for too long; null: none, if nothing changes. */
export function scalingDueAtMs({ groups, maxIdleMs, minGroups }: ScalingState): number | null {
  const live = groups.filter(isLive);
  const idle = live.length > minGroups ? longestIdle(live) : null;
  return idle === null ? null : idle.idleSinceMs! + maxIdleMs;
}

/** The newest of those idle for the same time. */
function longestIdle(groups: readonly ScaledGroup[]): ScaledGroup | null {
  let longest: ScaledGroup | null = null;
  for (const group of groups) {
    if (group.idleSinceMs !== null && group.idleSinceMs <= (longest?.idleSinceMs ?? Number.POSITIVE_INFINITY))
      longest = group;
  }
  return longest;
}

/** What does not run yet, then what is idle, then the newest. */
function mostDispensable(live: readonly ScaledGroup[]): ScaledGroup {
  return live.findLast((group) => group.state !== 'running') ?? longestIdle(live) ?? live.at(-1)!;
}
