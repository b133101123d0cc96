/** A worker group over replicas that die and start as the test says. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { NO_SAMPLE, type Replica } from '../../../../server/engines/engine.js';
import { WorkerGroup } from '../../../../server/work-load-manager/worker-group.js';
import { LogRecorder } from '../../../fixtures/log-recorder.js';

afterEach(() => vi.useRealTimers());

/** A replica that does not start, or that runs until `die`. */
function replica(
  startError: ServingError | null,
): Replica & { hasWorked: boolean; deathsOfRequests: number; die(error: ServingError): void } {
  let end: { resolve(): void; reject(error: unknown): void };
  const ended = new Promise<void>((resolve, reject) => {
    end = { resolve, reject };
  });
  return {
    start: async () => {
      if (startError) throw startError;
    },
    run: () => ended,
    drain: () => end.resolve(),
    stop: async () => end.resolve(),
    hasWorked: false,
    deathsOfRequests: 0,
    load: { running: 0, room: 1 },
    pids: [],
    sample: () => NO_SAMPLE,
    die: (error) => end.reject(error),
  };
}

function makeGroup(starts: readonly (ServingError | null)[]) {
  const lives = starts.map(replica);
  const deaths: [string, boolean, number][] = [];
  let next = 0;
  const group = new WorkerGroup({
    id: 1,
    newReplica: () => lives[next++]!,
    logger: new LogRecorder().logger,
    nowMs: () => 0,
    onDeath: (error, isLasting, ofRequests) => {
      deaths.push([error.code, isLasting, ofRequests]);
      return !isLasting;
    },
    onChange: () => {},
  });
  return { group, lives, deaths };
}

const damaged = (): ServingError => new ServingError('SHARDS_INVALID', 'EIO: i/o error, read');

describe('a worker group', () => {
  it('that has run tries again after a file could not be read, since the files were good once', async () => {
    vi.useFakeTimers();
    const { deaths, group, lives } = makeGroup([null, damaged(), null]);
    await group.start();
    lives[0]!.die(new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL'));
    await vi.advanceTimersByTimeAsync(0);
    expect(deaths).toEqual([
      ['WORKER_FAILED', false, 0],
      ['SHARDS_INVALID', false, 0],
    ]);
    expect(group.state).toBe('restarting');
    await vi.advanceTimersByTimeAsync(1000);
    expect(group.state).toBe('running');
    await group.stop();
  });

  it('that has done something is started again at once, however often it has died; one that has not waits longer each time', async () => {
    vi.useFakeTimers();
    const { group, lives } = makeGroup(new Array(12).fill(null));
    await group.start();
    const killed = () => new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL');
    for (const life of lives.slice(0, 8)) {
      life.hasWorked = true;
      life.die(killed());
      await vi.advanceTimersByTimeAsync(0);
      expect(group.state).toBe('running');
    }
    for (const [index, pauseMs] of [0, 1000, 2000].entries()) {
      lives[8 + index]!.die(killed());
      await vi.advanceTimersByTimeAsync(Math.max(0, pauseMs - 1));
      expect(group.state).toBe(pauseMs === 0 ? 'running' : 'restarting');
      await vi.advanceTimersByTimeAsync(1);
      expect(group.state).toBe('running');
    }
    await group.stop();
  });

  it('that died of a request is started again at once, and says that it did', async () => {
    vi.useFakeTimers();
    const { deaths, group, lives } = makeGroup(new Array(9).fill(null));
    await group.start();
    for (const life of lives.slice(0, 8)) {
      life.deathsOfRequests = 1;
      life.die(new ServingError('WORKER_FAILED', 'The process of the handler ended by SIGKILL'));
      await vi.advanceTimersByTimeAsync(0);
      expect(group.state).toBe('running');
    }
    expect(deaths).toEqual(new Array(8).fill(['WORKER_FAILED', false, 1]));
    await group.stop();
  });

  it('that never ran fails for good over files that no start can mend', async () => {
    const { deaths, group } = makeGroup([damaged()]);
    group.begin();
    await vi.waitFor(() => expect(group.state).toBe('failed'));
    expect(deaths).toEqual([['SHARDS_INVALID', true, 0]]);
  });
});
