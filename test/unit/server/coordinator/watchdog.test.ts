/** A rank that hangs, told from a server that did not run: on a clock that the test moves. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ServingError } from '../../../../proto/errors.js';
import { Watchdog } from '../../../../server/coordinator/watchdog.js';
import { LogRecorder } from '../../../fixtures/log-recorder.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function watched(stepTimeoutMs = 60_000, ask: () => Promise<unknown> = async () => []) {
  const hung: ServingError[] = [];
  const states = new Map<number, string>();
  const log = new LogRecorder();
  let nowMs = 0;
  const watchdog = new Watchdog({
    group: { pids: [10, 11], ask, deafRanks: () => [] },
    ...{ stepTimeoutMs, logger: log.logger, nowMs: () => nowMs },
    stateOf: (pid) => states.get(pid) ?? 'S',
    onHung: (error) => hung.push(error),
  });
  /** Ticks come as they should. */
  const run = (ms: number): void => {
    for (let left = ms; left > 0; left -= 250) {
      nowMs += 250;
      vi.advanceTimersByTime(250);
    }
  };
  /** Nothing runs meanwhile; then one tick that is late. */
  const freeze = (ms: number): void => {
    nowMs += ms;
    vi.advanceTimersByTime(1000);
  };
  return { freeze, hung, log, run, states, watchdog };
}

it('a step has its deadline, a long one a later one', () => {
  const short = watched();
  short.watchdog.stepStarted(1, 512);
  short.run(59_000);
  expect(short.hung).toEqual([]);
  short.run(2000);
  expect(short.hung).toMatchObject([{ code: 'STEP_TIMEOUT', message: 'step 1 took longer than 60 s' }]);
  const long = watched();
  // A text to embed runs whole: on two cores it can take more than a minute.
  long.watchdog.stepStarted(1, 4096);
  long.run(479_000);
  expect(long.hung).toEqual([]);
  long.run(2000);
  expect(long.hung).toMatchObject([{ message: 'step 1 took longer than 480 s' }]);
});

it('time in which the server did not run counts for nobody', async () => {
  const { freeze, hung, log, run, watchdog } = watched();
  watchdog.stepStarted(1, 1);
  freeze(3_600_000);
  run(50_000);
  expect(hung).toEqual([]);
  expect(log.lines).toMatchObject([
    { msg: expect.stringContaining('the server did not run'), ms: 3_600_000 },
  ]);
  run(10_000);
  expect(hung).toHaveLength(1);
});

it('a process that the kernel has stopped is suspicious at once, and hangs after five seconds', () => {
  const { hung, run, states, watchdog } = watched();
  states.set(11, 'T');
  run(1000);
  expect([watchdog.isSuspicious, hung]).toEqual([true, []]);
  states.delete(11);
  run(1000);
  expect(watchdog.isSuspicious).toBe(false);
  states.set(11, 't');
  run(7000);
  expect(hung).toMatchObject([
    { message: expect.stringMatching(/^rank 1 hangs: its process 11 is stopped/) },
  ]);
});

it('a step that takes five times as long as any before it looks wrong, long before its deadline', () => {
  const { hung, run, watchdog } = watched();
  watchdog.stepStarted(1, 1);
  run(4000);
  expect(watchdog.isSuspicious).toBe(false);
  run(2000);
  expect(watchdog.isSuspicious).toBe(true);
  watchdog.stepEnded();
  expect(watchdog.isSuspicious).toBe(false);
  // Now known to take six seconds.
  watchdog.stepStarted(2, 1);
  run(29_000);
  expect(watchdog.isSuspicious).toBe(false);
  run(2000);
  expect([watchdog.isSuspicious, hung]).toEqual([true, []]);
});

it('ranks are asked while they run, so that a slow one is seen, and cannot be deaf meanwhile', async () => {
  let asked = 0;
  const { hung, run, watchdog } = watched(60_000, () => {
    asked++;
    return new Promise(() => {});
  });
  watchdog.stepStarted(1, 1);
  run(30_000);
  expect([asked, hung]).toEqual([1, []]);
  watchdog.stepEnded();
  run(11_000);
  expect(hung).toMatchObject([{ message: expect.stringContaining('hangs: idle, and no answer') }]);
});
