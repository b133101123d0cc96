/** When a pool starts or stops a group: one rule a row. */
import { describe, expect, it } from 'vitest';
import {
  nextScaling,
  type ScaledGroup,
  type ScalingState,
  scalingDueAtMs,
} from '../../../../server/work-load-manager/scaling.js';
import type { GroupState } from '../../../../server/work-load-manager/worker-group.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const group = (
  id: number,
  state: GroupState = 'running',
  idleSinceMs: number | null = null,
): ScaledGroup => ({
  id,
  state,
  idleSinceMs,
});

const state = (fields: Partial<ScalingState>): ScalingState => ({
  minGroups: 1,
  maxGroups: 3,
  groups: [],
  waiting: fields.backlog ?? 0,
  backlog: 0,
  batchSize: 1,
  maxIdleMs: 2000,
  ...fields,
});

const start = (why: string) => ({ kind: 'start', why });
const stop = (id: number, why: string) => ({ kind: 'stop', id, why });

describe('scaling', () => {
  it.each([
    ['fewer than the least', { groups: [] }, start('below minimum')],
    ['one that starts is waited for', { minGroups: 3, groups: [group(1, 'starting')] }, null],
    ['one that restarts counts', { groups: [group(1, 'restarting')] }, null],
    ['one that stops does not', { groups: [group(1, 'stopping')] }, start('below minimum')],
    ['nor one that has failed', { groups: [group(1, 'failed')] }, start('below minimum')],
    ['none is needed', { minGroups: 0 }, null],
    ['none runs and a job waits', { minGroups: 0, waiting: 1 }, start('no group')],
    ['two batches wait', { groups: [group(1)], backlog: 2 }, null],
    ['more than two batches wait', { groups: [group(1)], backlog: 3 }, start('backlog')],
    ['a larger batch', { groups: [group(1)], backlog: 8, batchSize: 4 }, null],
    ['more than two larger batches', { groups: [group(1)], backlog: 9, batchSize: 4 }, start('backlog')],
    ['the most there may be', { groups: [group(1), group(2), group(3)], backlog: 99 }, null],
    ['one at a time', { groups: [group(1), group(2, 'starting')], backlog: 99 }, null],
    ['no workers at all', { minGroups: 0, maxGroups: 0, waiting: 5 }, null],
    ['more than the most', { maxGroups: 1, groups: [group(1), group(2)] }, stop(2, 'above maximum')],
    [
      'more than the most, the first idle',
      { maxGroups: 1, groups: [group(1, 'running', 0), group(2)] },
      stop(1, 'above maximum'),
    ],
    [
      'more than the most, one starts',
      { maxGroups: 1, groups: [group(1, 'starting'), group(2, 'running', 0)] },
      stop(1, 'above maximum'),
    ],
  ] satisfies [string, Partial<ScalingState>, unknown][])('%s', (_name, fields, action) => {
    expect(nextScaling(state(fields), 0)).toEqual(action);
  });

  it('stops the group that has been idle longest, when its time has come, down to the least', () => {
    const groups = [group(1, 'running', 300), group(2), group(3, 'running', 100)];
    const idle = state({ groups });
    expect(scalingDueAtMs(idle)).toBe(2100);
    expect(nextScaling(idle, 2099)).toBeNull();
    expect(nextScaling(idle, 2100)).toEqual(stop(3, 'idle'));
    expect(scalingDueAtMs(state({ groups, minGroups: 3 }))).toBeNull();
    expect(nextScaling(state({ groups, minGroups: 3 }), 9999)).toBeNull();
  });

  it('of those idle for the same time the newest goes', () => {
    const groups = [group(1, 'running', 5), group(2, 'running', 5)];
    expect(nextScaling(state({ groups }), 2005)).toEqual(stop(2, 'idle'));
  });

  it(`keeps min and max, and comes to rest, whatever happens (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    const states: GroupState[] = ['starting', 'running', 'restarting', 'failed', 'stopping'];
    for (let round = 0; round < 2000; round++) {
      const minGroups = random.integer(0, 3);
      let now = state({
        minGroups,
        maxGroups: random.integer(minGroups, 5),
        waiting: random.integer(0, 9),
        backlog: random.integer(0, 9),
        groups: Array.from({ length: random.integer(0, 7) }, (_, id) => {
          const is = random.pick(states)!;
          return group(id, is, is === 'running' && random.next() < 0.5 ? random.integer(0, 3000) : null);
        }),
      });
      let steps = 0;
      for (let action = nextScaling(now, 3000); action; action = nextScaling(now, 3000)) {
        expect(steps++, 'steps').toBeLessThan(20);
        const { groups } = now;
        now = {
          ...now,
          groups:
            action.kind === 'start'
              ? [...groups, group(100 + steps, 'starting')]
              : groups.map((one) => (one.id === action.id ? group(one.id, 'stopping') : one)),
        };
        const live = now.groups.filter((one) => ['starting', 'running', 'restarting'].includes(one.state));
        if (action.kind === 'start') expect(live.length).toBeLessThanOrEqual(now.maxGroups);
        else expect(live.length).toBeGreaterThanOrEqual(now.minGroups);
      }
    }
  });
});
