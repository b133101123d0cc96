/** Progress in a log: the beginning of each phase, and no more lines than a reader wants. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StartupProgress } from '../../../server/startup-progress.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';

const MIB = 1024 * 1024;
beforeEach(() => vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => vi.useRealTimers());

describe('progress of a start, where there is no terminal', () => {
  it('is told when a phase begins, then at most once a second and once a tenth', () => {
    const log = new LogRecorder();
    const progress = new StartupProgress(log.logger, false);
    progress.update('toy', 'partition', 0, 100 * MIB);
    progress.update('toy', 'partition', 50 * MIB, 100 * MIB);
    vi.advanceTimersByTime(1000);
    progress.update('toy', 'partition', 52 * MIB, 100 * MIB);
    vi.advanceTimersByTime(1000);
    progress.update('toy', 'partition', 53 * MIB, 100 * MIB);
    progress.update('toy', 'load', 0, 0);
    progress.update('toy', 'load', 10 * MIB, 100 * MIB);
    progress.stop();
    expect(log.lines.map((line) => line.msg)).toEqual([
      'writing shards: 0 % of 100.0 MiB',
      'writing shards: 50 % of 100.0 MiB',
      'loading weights: 10 % of 100.0 MiB',
    ]);
  });

  it('ends with its last tenth, however fast it was', () => {
    const log = new LogRecorder();
    const progress = new StartupProgress(log.logger, false);
    for (let done = 0; done <= 100; done++) progress.update('toy', 'load', done * MIB, 100 * MIB);
    progress.update('toy', 'load', 100 * MIB, 100 * MIB);
    expect(log.lines.map((line) => line.msg)).toEqual([
      'loading weights: 0 % of 100.0 MiB',
      'loading weights: 100 % of 100.0 MiB',
    ]);
  });

  it('counts models that load side by side apart', () => {
    const log = new LogRecorder();
    const progress = new StartupProgress(log.logger, false);
    for (let done = 1; done < 100; done++) {
      for (const model of ['a', 'b']) progress.update(model, 'load', done * MIB, 100 * MIB);
    }
    expect(log.lines.map((line) => line.model)).toEqual(['a', 'b']);
  });

  it('is a bar on a terminal, and no line', () => {
    const log = new LogRecorder();
    const progress = new StartupProgress(log.logger, true);
    for (const done of [0, 50, 100]) progress.update('toy', 'partition', done, 100);
    progress.update('toy', 'load', 50, 100);
    progress.stop();
    expect(log.lines).toEqual([]);
  });
});
