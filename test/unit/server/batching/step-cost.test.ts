/** What a step costs, learned: any monotone curve, and one that changes. */
import { describe, expect, it } from 'vitest';
import { StepCost } from '../../../../server/batching/step-cost.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const of = (tokens: number, pairs = 0) => ({ tokens, pairs });
const none = (): number => 0;

describe('the cost of a step', () => {
  it('is not known before a step ran', () => {
    const cost = new StepCost();
    cost.observe(of(0), 5);
    cost.observe(of(5), 0);
    expect([cost.ms(of(1)), cost.tokensWithin(100, 2, none)]).toEqual([null, null]);
  });

  const curves: [string, (tokens: number) => number][] = [
    ['a pass over the weights and a price a token', (tokens) => 22 + 1.05 * tokens],
    ['nearly a price a token alone', (tokens) => 35 + 9 * tokens],
    ['a kernel that changes at 16 rows', (tokens) => (tokens < 16 ? 40 + 6 * tokens : 110 + 2 * tokens)],
  ];
  for (const [name, curve] of curves) {
    it(`follows ${name}, with a noise of a tenth`, () => {
      const random = seededRandom(testSeed);
      const cost = new StepCost();
      for (let step = 0; step < 600; step++) {
        // As many small steps as large ones: of 1 … 300 alike, a seed in ten had none of a single token.
        const tokens = Math.floor(300 ** random.next());
        cost.observe(of(tokens), curve(tokens) * (0.95 + random.next() / 10));
      }
      for (const tokens of [1, 8, 20, 64, 128, 280]) {
        expect(cost.ms(of(tokens))! / curve(tokens), `${tokens} tokens`).toBeGreaterThan(0.8);
        expect(cost.ms(of(tokens))! / curve(tokens), `${tokens} tokens`).toBeLessThan(1.25);
        const within = cost.tokensWithin(curve(tokens), 2, none)!;
        expect(within, `tokens within the time of ${tokens}`).toBeLessThanOrEqual(tokens * 1.3 + 4);
        expect(within, `tokens within the time of ${tokens}`).toBeGreaterThanOrEqual(tokens * 0.7 - 4);
      }
    });
  }

  it('never says that more tokens cost less', () => {
    const random = seededRandom(testSeed);
    const cost = new StepCost();
    for (let step = 0; step < 300; step++) {
      cost.observe(of(random.integer(1, 200)), random.integer(1, 500));
      let before = 0;
      for (let tokens = 1; tokens < 300; tokens += 7) {
        const ms = cost.ms(of(tokens))!;
        expect(ms).toBeGreaterThanOrEqual(before - 1e-9);
        before = ms;
      }
    }
  });

  it('unlearns sizes that were not run lately, from those that were', () => {
    const cost = new StepCost();
    for (let step = 0; step < 20; step++) for (const tokens of [4, 40]) cost.observe(of(tokens), 20 + tokens);
    // The contexts have become long: 4 decodes cost more than 44 tokens did.
    for (let step = 0; step < 20; step++) cost.observe(of(4), 100);
    expect(cost.ms(of(40))).toBeGreaterThan(95);
    for (let step = 0; step < 20; step++) cost.observe(of(40), 30);
    expect(cost.ms(of(4))).toBeLessThan(35);
  });

  it('believes one slow step less than half', () => {
    const cost = new StepCost();
    for (let step = 0; step < 20; step++) cost.observe(of(8), 50);
    cost.observe(of(8), 5000);
    expect(cost.ms(of(8))).toBeLessThan(70);
  });

  it('tells what a pair of token and row costs, from like steps behind unlike contexts', () => {
    const random = seededRandom(testSeed);
    for (const pairMs of [0.0001, 0.0005, 0.002]) {
      const cost = new StepCost();
      const took = (tokens: number, pairs: number): number => 20 + 3 * tokens + pairMs * pairs;
      for (let prompt = 0; prompt < 8; prompt++) {
        for (let rows = 0; rows < 3000; rows += 100) {
          const work = of(108, 800 + 100 * (rows + 50));
          cost.observe(work, took(work.tokens, work.pairs) * (0.95 + random.next() / 10));
        }
        cost.observe(of(8, 800), took(8, 800));
      }
      for (const rows of [0, 1000, 3000]) {
        const work = of(108, 100 * rows);
        expect(cost.ms(work)! / took(work.tokens, work.pairs), `${rows} rows, ${pairMs}`).toBeGreaterThan(
          0.9,
        );
        expect(cost.ms(work)! / took(work.tokens, work.pairs), `${rows} rows, ${pairMs}`).toBeLessThan(1.6);
      }
      const within = cost.tokensWithin(400, 2, (tokens) => tokens * 2000)!;
      expect(took(within, within * 2000)).toBeLessThan(470);
      expect(took(within, within * 2000)).toBeGreaterThan(300);
    }
  });

  it('looks no further than twice the largest step, and takes what is beyond to cost as much a token', () => {
    const cost = new StepCost();
    cost.observe(of(100), 100);
    expect(cost.tokensWithin(10_000, 2, none)).toBe(200);
    expect(cost.tokensWithin(150, 2, none)).toBe(150);
    expect(cost.tokensWithin(50, 2, none)).toBe(0);
  });
});
