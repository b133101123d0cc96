/** The share of a group: who runs least gets the next job. */
import { describe, expect, it } from 'vitest';
import { fairShare, type Taker } from '../../../../server/jobs/fair-share.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const shares = (takers: readonly Taker[], waiting: number) =>
  takers.map((_, index) => fairShare(takers, index, waiting));

describe('the fair share', () => {
  it('deals jobs evenly among idle groups, the first of equals first', () => {
    const idle = { running: 0, room: 8 };
    expect(shares([idle, idle, idle], 5)).toEqual([2, 2, 1]);
    expect(shares([idle], 5)).toEqual([5]);
  });

  it('levels what is uneven', () => {
    expect(
      shares(
        [
          { running: 4, room: 4 },
          { running: 0, room: 8 },
        ],
        3,
      ),
    ).toEqual([0, 3]);
    expect(
      shares(
        [
          { running: 4, room: 4 },
          { running: 0, room: 8 },
        ],
        6,
      ),
    ).toEqual([1, 5]);
  });

  it('leaves nothing to a group without room', () => {
    expect(
      shares(
        [
          { running: 1, room: 0 },
          { running: 6, room: 2 },
        ],
        5,
      ),
    ).toEqual([0, 2]);
    expect(shares([{ running: 0, room: 0 }], 5)).toEqual([0]);
  });

  it(`gives out as many jobs as there are and find room (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    for (let round = 0; round < 1000; round++) {
      const takers = Array.from({ length: random.integer(1, 6) }, () => ({
        running: random.integer(0, 5),
        room: random.integer(0, 5),
      }));
      const waiting = random.integer(0, 20);
      const room = takers.reduce((sum, taker) => sum + taker.room, 0);
      const dealt = shares(takers, waiting);
      expect(dealt.reduce((sum, share) => sum + share, 0)).toBe(Math.min(waiting, room));
      dealt.forEach((share, index) => {
        expect(share).toBeLessThanOrEqual(takers[index]!.room);
      });
    }
  });
});
