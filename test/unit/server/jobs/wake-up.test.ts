/** No change between two sleeps is lost, and a timer that is not needed is called off. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../server/jobs/clock.js';
import { WakeUp } from '../../../../server/jobs/wake-up.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';

describe('waking up', () => {
  it('does not sleep when something has changed since the last time', async () => {
    const wakeUp = new WakeUp(new ManualClock());
    wakeUp.notify();
    await wakeUp.wait(null);
    let slept = true;
    const second = wakeUp.wait(null).then(() => {
      slept = false;
    });
    await Promise.resolve();
    expect(slept).toBe(true);
    wakeUp.notify();
    await second;
  });

  it('wakes at a point of time', async () => {
    const clock = new ManualClock();
    const waiting = new WakeUp(clock).wait(30);
    clock.advance(30);
    await waiting;
  });

  it('calls its timer off when it was woken before', async () => {
    const clock = new ManualClock();
    const wakeUp = new WakeUp(clock);
    const waiting = wakeUp.wait(30);
    expect(clock.timers).toEqual([30]);
    wakeUp.notify();
    await waiting;
    expect(clock.timers).toEqual([]);
  });

  it("the system's clock does not call what was called off", () => {
    const cancel = systemClock.at(systemClock.nowMs() + 60_000, () => expect.fail('called'));
    cancel();
  });
});
