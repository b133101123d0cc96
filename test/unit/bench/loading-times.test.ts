/** What loading took, out of a server's log. */
import { expect, it } from 'vitest';
import { LoadingTimes } from '../../../bench/serving/loading-times.js';

it('is from the first group’s start to its last rank, with the speed of each', () => {
  const times = new LoadingTimes();
  const ready = { msg: 'shard worker ready', loadMs: 250, warmUpMs: 100 };
  times.take('not JSON');
  for (const line of [
    { time: 1000, msg: 'worker group starts' },
    { ...ready, time: 2100, rank: 1 },
    { ...ready, time: 2000, rank: 0, loadMs: 500 },
  ])
    times.take(JSON.stringify(line));
  expect(times.sentence([5e8, 5e8])).toBe(
    'loading: the group ready after 1.10 s; rank 0 500 ms (1.00 GB/s), warm after 100 more; rank 1 250 ms (2.00 GB/s), warm after 100 more',
  );
});
