/** When ranks are asked, how long a scrape waits for them, and which number a group has. */
import { describe, expect, it } from 'vitest';
import type { Inspection } from '../../../../proto/control.js';
import { RankReadings } from '../../../../server/metrics/rank-readings.js';
import { groupReading, inspection } from '../../../fixtures/pool-reading.js';

/** A group whose answers the test gives. */
function askedGroup() {
  const waiting: ((answer: Inspection[] | Error) => void)[] = [];
  const group = groupReading({
    inspect: () =>
      new Promise((resolve, reject) => {
        waiting.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
      }),
  });
  return { group, waiting };
}

/** Time stands still until the test moves it; waits end when the test says so. */
function handClock() {
  const ends: (() => void)[] = [];
  const clock = {
    time: 0,
    nowMs: () => clock.time,
    after: () => new Promise<void>((resolve) => ends.push(resolve)),
    endWaits: () => {
      for (const end of ends.splice(0)) end();
    },
  };
  return clock;
}

describe('what ranks say of themselves', () => {
  it('is asked at most once a second', async () => {
    const clock = handClock();
    const { group, waiting } = askedGroup();
    const readings = new RankReadings(clock);
    const first = readings.read([group]);
    waiting[0]!([inspection({ steps: 1 })]);
    expect((await first)[0]?.ranks[0]?.steps).toBe(1);
    clock.time = 999;
    expect((await readings.read([group]))[0]?.ranks[0]?.steps).toBe(1);
    expect(waiting).toHaveLength(1);
    clock.time = 1000;
    const second = readings.read([group]);
    waiting[1]!([inspection({ steps: 2 })]);
    expect((await second)[0]?.ranks[0]?.steps).toBe(2);
  });

  it('does not hold up a scrape: the last answer is shown, and no second question is put', async () => {
    const clock = handClock();
    const { group, waiting } = askedGroup();
    const readings = new RankReadings(clock);
    const early = readings.read([group]);
    clock.endWaits();
    expect(await early).toEqual([]);
    clock.time = 5000;
    const again = readings.read([group]);
    clock.endWaits();
    expect(await again).toEqual([]);
    expect(waiting).toHaveLength(1);
    waiting[0]!([inspection({ steps: 7 })]);
    // Let the answer arrive.
    await new Promise(setImmediate);
    const later = readings.read([group]);
    waiting[1]!([inspection({ steps: 8 })]);
    expect((await later)[0]?.ranks[0]?.steps).toBe(8);
  });

  it('shows the last answer of a group that fails while it is asked', async () => {
    const clock = handClock();
    const { group, waiting } = askedGroup();
    const readings = new RankReadings(clock);
    const first = readings.read([group]);
    waiting[0]!([inspection({ steps: 1 })]);
    await first;
    clock.time = 2000;
    const second = readings.read([group]);
    waiting[1]!(new Error('the group is lost'));
    expect((await second)[0]?.ranks[0]?.steps).toBe(1);
  });

  it('gives a new group the lowest free number, and leaves out groups that do not run', async () => {
    const readings = new RankReadings(handClock());
    const [a, b, c] = [groupReading(), groupReading(), groupReading()];
    const numbers = async (groups: Parameters<RankReadings['read']>[0]) =>
      (await readings.read(groups)).map(({ group }) => group);
    expect(await numbers([a!, b!])).toEqual([0, 1]);
    expect(await numbers([b!])).toEqual([1]);
    expect(await numbers([b!, c!])).toEqual([1, 0]);
    expect(await numbers([{ ...b!, inspect: null }, c!])).toEqual([0]);
  });
});
