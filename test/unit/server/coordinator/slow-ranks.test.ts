/** A rank that holds the others up, told from what all ranks say of their times. */
import { expect, it } from 'vitest';
import { SlowRanks } from '../../../../server/coordinator/slow-ranks.js';

/** Ranks that were busy for so long each, and waited for the slowest; added up over the looks. */
function group(ranks: number) {
  const slowRanks = new SlowRanks();
  const times = Array.from({ length: ranks }, () => ({ computeUs: 0, collectiveUs: 0, chooseUs: 0 }));
  return {
    slowRanks,
    look(busyUs: readonly number[], untoldUs: readonly number[] = []) {
      const lasted = Math.max(...busyUs.map((us, rank) => us + (untoldUs[rank] ?? 0)));
      busyUs.forEach((us, rank) => {
        const all = times[rank]!;
        all.computeUs += us;
        all.collectiveUs += lasted - us - (untoldUs[rank] ?? 0);
      });
      return slowRanks.look(times.map((all) => ({ ...all })));
    },
  };
}

it('a rank that is busy three times as long as its peers is slow, until it is below twice', () => {
  const { look, slowRanks } = group(4);
  look([0, 0, 0, 0]);
  expect(look([1e6, 1.2e6, 0.9e6, 1.4e6]).slower).toEqual([]);
  expect(look([1e6, 20e6, 1e6, 1e6])).toEqual({ slower: [1], recovered: [] });
  expect([0, 1, 2, 3].map((rank) => slowRanks.slowerThanPeers(rank))).toEqual([null, 20, null, null]);
  // Told once.
  expect(look([1e6, 2.5e6, 1e6, 1e6])).toEqual({ slower: [], recovered: [] });
  expect(slowRanks.slowerThanPeers(1)).toBe(2.5);
  expect(look([1e6, 1.1e6, 1e6, 1e6])).toEqual({ slower: [], recovered: [1] });
  expect(slowRanks.slowerThanPeers(1)).toBeNull();
});

it('a rank that has no core is slow, though it computes no longer than the others: they wait for it', () => {
  const { look, slowRanks } = group(2);
  look([0, 0]);
  look([1e6, 1e6], [0, 9e6]);
  expect(slowRanks.slowness.map(Math.round)).toEqual([0, 10]);
});

it('nothing is said of a group that has hardly run, nor of a rank without peers', () => {
  const { look, slowRanks } = group(2);
  look([0, 0]);
  look([1000, 50_000]);
  expect(slowRanks.slowness).toEqual([]);
  const alone = group(1);
  alone.look([0]);
  alone.look([1e9]);
  expect(alone.slowRanks.slowerThanPeers(0)).toBeNull();
});
