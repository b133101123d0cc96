/** Shared prefixes, against comparing every pair of prompts. */
import { describe, expect, it } from 'vitest';
import { PrefixIndex } from '../../../../server/batching/prefix-index.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const sharedLength = (a: readonly number[], b: readonly number[]): number => {
  let count = 0;
  while (count < Math.min(a.length, b.length) && a[count] === b[count]) count++;
  return count;
};

describe('a prefix index', () => {
  it('tells what each slot shares, to the token', () => {
    const index = new PrefixIndex();
    index.add(0, [1, 2, 3, 4]);
    index.add(1, [1, 2, 9]);
    index.add(2, [7]);
    expect([...index.shared([1, 2, 3, 5])].sort()).toEqual([
      [0, 3],
      [1, 2],
    ]);
    expect([...index.shared([1, 2, 3, 4, 5, 6])].sort()).toEqual([
      [0, 4],
      [1, 2],
    ]);
    expect([...index.shared([8])]).toEqual([]);
    index.remove(0);
    expect([...index.shared([1, 2, 3, 4])]).toEqual([[1, 2]]);
  });

  it('keeps an entry that is the beginning of another, and two that are the same', () => {
    const index = new PrefixIndex();
    index.add(0, [1, 2, 3]);
    index.add(1, [1, 2]);
    index.add(2, [1, 2, 3]);
    index.remove(0);
    expect([...index.shared([1, 2, 3, 4])].sort()).toEqual([
      [1, 2],
      [2, 3],
    ]);
    index.remove(1);
    expect([...index.shared([1, 2])]).toEqual([[2, 2]]);
  });

  it('refuses a second entry of a slot, and to remove one that is not there', () => {
    const index = new PrefixIndex();
    index.add(0, [1]);
    expect(() => index.add(0, [2])).toThrow('slot 0 has one entry');
    expect(() => index.add(1, [])).toThrow('at least one id');
    expect(() => index.remove(1)).toThrow('slot 1 has an entry');
  });

  it(`says what comparing all prompts says, and stays small (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    const index = new PrefixIndex();
    const entries = new Map<number, number[]>();
    // Few ids, so that prompts part late and often.
    const prompt = (): number[] => Array.from({ length: random.integer(1, 12) }, () => random.integer(0, 1));
    for (let round = 0; round < 3000; round++) {
      const slot = random.integer(0, 19);
      if (entries.delete(slot)) index.remove(slot);
      else {
        const ids = prompt();
        entries.set(slot, ids);
        index.add(slot, ids);
      }
      const asked = prompt();
      const expected = [...entries]
        .map(([each, ids]) => [each, sharedLength(ids, asked)] as const)
        .filter(([, shared]) => shared > 0);
      expect(index.shared(asked)).toEqual(new Map(expected));
      expect(index.size).toBe(entries.size);
      expect(index.nodeCount).toBeLessThanOrEqual(2 * entries.size);
    }
  });
});
