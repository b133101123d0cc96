/** When what has failed is tried again. */
import { expect, it } from 'vitest';
import { CoolDown } from '../../../../server/work-load-manager/cool-down.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';

function coolDown(firstMs: number) {
  const clock = new ManualClock();
  let tries = 0;
  const one = new CoolDown(firstMs, clock, () => {
    tries++;
  });
  return { clock, one, tries: () => tries };
}

it('waits twice as long after every failure, ten minutes at most', () => {
  const { clock, one, tries } = coolDown(60_000);
  const waits: (number | null)[] = [];
  for (let failure = 1; failure <= 6; failure++) {
    one.failed();
    waits.push(one.remainingMs);
    clock.advance(one.remainingMs!);
    expect(tries()).toBe(failure);
    expect(one.remainingMs).toBe(null);
  }
  expect(waits).toEqual([60_000, 120_000, 240_000, 480_000, 600_000, 600_000]);
});

it('goes on where it was after a recovery that did not last, and begins anew after one that did', () => {
  const { clock, one } = coolDown(1000);
  one.failed();
  one.recovered();
  clock.advance(599_000);
  one.failed();
  expect(one.remainingMs).toBe(2000);
  one.recovered();
  clock.advance(600_000);
  one.failed();
  expect(one.remainingMs).toBe(1000);
});

it('does not try by itself where it was told not to, nor twice when it was asked to try now', () => {
  const never = coolDown(0);
  never.one.failed();
  never.clock.advance(1e9);
  expect([never.one.remainingMs, never.tries()]).toEqual([null, 0]);
  const asked = coolDown(1000);
  asked.one.failed();
  asked.one.now();
  asked.clock.advance(1e9);
  expect(asked.tries()).toBe(1);
});
