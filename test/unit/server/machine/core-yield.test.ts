import { describe, expect, it } from 'vitest';
import { type CoreUser, CoreYield } from '../../../../server/machine/core-yield.js';
import { canRaisePriority, LOWEST_PRIORITY } from '../../../../server/machine/process-priority.js';

const OWN = 3;

/** Two models, or more; every priority that was set, as `pid:nice`. */
function machine(canRaise = true) {
  const users: Record<string, CoreUser> = {
    a: { id: 'a', backlog: 0, running: 0, pids: [10, 11] },
    b: { id: 'b', backlog: 0, running: 0, pids: [20] },
  };
  const set: string[] = [];
  const told: unknown[] = [];
  const cores = new CoreYield({
    users: () => Object.values(users),
    ownPriority: OWN,
    canRaise,
    setPriority: (pid, nice) => set.push(`${pid}:${nice}`),
    logger: { debug: () => {}, info: (...line: unknown[]) => told.push(line) },
  });
  let nowMs = 1000;
  return {
    told,
    users,
    /** What changed after so long. */
    later(ms: number, changes: Record<string, Partial<CoreUser>> = {}): string[] {
      for (const [id, change] of Object.entries(changes)) users[id] = { ...users[id]!, ...change };
      set.length = 0;
      for (const endMs = nowMs + ms; nowMs < endMs; ) {
        nowMs += 50;
        cores.tick(nowMs);
      }
      return [...set].sort();
    },
  };
}

const LOW_A = [`10:${LOWEST_PRIORITY}`, `11:${LOWEST_PRIORITY}`];
const OWN_A = [`10:${OWN}`, `11:${OWN}`];

describe('a saturated model', () => {
  it('yields to one that keeps up, as long as that has work', () => {
    const { later } = machine();
    expect(later(1000, { a: { running: 8, backlog: 5 } })).toEqual([]);
    expect(later(100, { b: { running: 1 } })).toEqual(LOW_A);
    expect(later(1000)).toEqual([]);
    // Between two requests it is not worth taking back.
    expect(later(200, { b: { running: 0 } })).toEqual([]);
    expect(later(200)).toEqual(OWN_A);
  });

  it('is one whose backlog stays: a burst is none', () => {
    const { later } = machine();
    later(1000, { b: { running: 1 } });
    expect(later(200, { a: { running: 8, backlog: 5 } })).toEqual([]);
    expect(later(500, { a: { backlog: 0 } })).toEqual([]);
    expect(later(500, { a: { backlog: 5 } })).toEqual(LOW_A);
    expect(later(200, { a: { backlog: 0 } })).toEqual([]);
    expect(later(200)).toEqual(OWN_A);
  });

  it('yields to nobody where every model is saturated', () => {
    const { later } = machine();
    later(1000, { a: { running: 8, backlog: 5 } });
    expect(later(1000, { b: { running: 1 } })).toEqual(LOW_A);
    expect(later(1000, { b: { running: 8, backlog: 1 } })).toEqual(OWN_A);
  });

  it('has its workers of a new start yield too', () => {
    const { later } = machine();
    later(1000, { a: { running: 8, backlog: 5 }, b: { running: 1 } });
    expect(later(100, { a: { pids: [30, 11] } })).toEqual([`10:${OWN}`, `30:${LOWEST_PRIORITY}`]);
  });

  it('has the cores to itself again when the other model is gone', () => {
    const { later, users } = machine();
    later(1000, { a: { running: 8, backlog: 5 }, b: { running: 1 } });
    delete users.b;
    expect(later(500)).toEqual(OWN_A);
  });

  it('keeps its priority where it could not be given back, which is told once', () => {
    const { later, told } = machine(false);
    expect(later(2000, { a: { running: 8, backlog: 5 }, b: { running: 1 } })).toEqual([]);
    expect(told).toHaveLength(1);
  });
});

describe('canRaisePriority', () => {
  const system = (capabilities: string, limit: string) => (file: string) =>
    file === '/proc/self/status'
      ? `Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t${capabilities}\n`
      : `Max cpu time             unlimited            unlimited            seconds\nMax nice priority         ${limit}                    ${limit}                    \n`;

  it.each([
    ['0000000000800000', '0', 0, true],
    ['000001ffffffffff', '0', 0, true],
    ['00000000a80425fb', '0', 0, false],
    ['0000000000000000', '20', 0, true],
    ['0000000000000000', '19', 0, false],
    ['0000000000000000', '15', 5, true],
    ['0000000000000000', 'unlimited', 0, true],
  ])('capabilities %s, RLIMIT_NICE %s, own nice value %i: %s', (capabilities, limit, own, can) => {
    expect(canRaisePriority(system(capabilities, limit), own)).toBe(can);
  });
});
