import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Sampling } from '../../../../proto/control.js';
import { finalDistribution } from '../../../../shard-worker/sampler/distribution.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';
import { goldenFolder } from '../../../support/golden.js';
import { randomLogits, randomSampling, sequenceOf } from './choosing.js';

interface GoldenCase {
  name: string;
  vocabSize: number;
  params: Partial<Sampling>;
  promptIds: number[];
  generatedIds: number[];
  endIds: number[];
  logits: number[];
  probabilities: number[];
  keptTokens: number;
}

const golden = JSON.parse(readFileSync(join(goldenFolder('chooser'), 'cases.json'), 'utf8')) as {
  tolerance: number;
  cases: GoldenCase[];
};

/** The same by the definition: full sorts, every step over a whole list of probabilities. */
function byDefinition(logits: Float32Array, sampling: Sampling): Map<number, number> {
  let kept = Array.from(logits, (logit, id) => ({ id, weight: logit / sampling.temperature, p: 0 }));
  const normalise = (): void => {
    const max = Math.max(...kept.map(({ weight }) => weight));
    const sum = kept.reduce((total, { weight }) => total + Math.exp(weight - max), 0);
    for (const one of kept) one.p = Math.exp(one.weight - max) / sum;
    kept.sort((a, b) => b.weight - a.weight || a.id - b.id);
  };
  normalise();
  if (sampling.topK > 0) kept = kept.slice(0, sampling.topK);
  normalise();
  let before = 0;
  if (sampling.topP < 1) {
    kept = kept.filter(({ p }, index) => {
      const keep = index === 0 || before < sampling.topP;
      before += p;
      return keep;
    });
  }
  normalise();
  kept = kept.filter(({ p }, index) => index === 0 || p >= sampling.minP * kept[0]!.p);
  normalise();
  if (sampling.typicalP < 1) {
    const entropy = kept.reduce((total, { p }) => total - (p > 0 ? p * Math.log(p) : 0), 0);
    const distance = (p: number): number => Math.abs(-Math.log(p) - entropy);
    const sorted = [...kept].sort((a, b) => distance(a.p) - distance(b.p));
    let reached = 0;
    let last = 0;
    for (const one of sorted) {
      if (reached >= sampling.typicalP) break;
      reached += one.p;
      last = distance(one.p);
    }
    kept = kept.filter(({ p }) => distance(p) <= last);
  }
  normalise();
  return new Map(kept.map(({ id, p }) => [id, p]));
}

describe('the distribution a token is drawn from', () => {
  for (const { name, vocabSize, params, ...given } of golden.cases) {
    it(`is that of transformers: ${name}`, () => {
      const sequence = sequenceOf({
        sampling: params,
        promptIds: given.promptIds,
        newIds: given.generatedIds,
        endIds: given.endIds,
      });
      const distribution = finalDistribution(Float32Array.from(given.logits), vocabSize, sequence);
      let kept = 0;
      for (const [id, expected] of given.probabilities.entries()) {
        const found = distribution.get(id) ?? 0;
        expect(Math.abs(found - expected), `id ${id}: ${found}, expected ${expected}`).toBeLessThanOrEqual(
          golden.tolerance,
        );
        expect(found > 0, `id ${id} kept`).toBe(expected > 0);
        if (found > 0) kept += 1;
      }
      expect(kept).toBe(given.keptTokens);
    });
  }

  it('has 20 golden cases', () => {
    expect(golden.cases).toHaveLength(20);
  });

  it(`is that of the definition for any mixture of limits (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    for (let round = 0; round < 200; round++) {
      const { temperature = 1, topK = 0, topP = 1, minP = 0, typicalP = 1 } = randomSampling(random);
      const { sampling } = sequenceOf({ sampling: { temperature, topK, topP, minP, typicalP } });
      const logits = randomLogits(random, random.pick([1, 2, 50, 700]));
      const expected = byDefinition(logits, sampling);
      const found = finalDistribution(logits, logits.length, sequenceOf({ sampling }));
      expect([...found.keys()].sort(), JSON.stringify(sampling)).toEqual([...expected.keys()].sort());
      for (const [id, p] of expected) expect(found.get(id)).toBeCloseTo(p, 9);
    }
  });

  it('keeps the lower ids among equals, and exactly top_k', () => {
    const logits = Float32Array.of(1, 5, 5, 2, 5, 5);
    const kept = finalDistribution(logits, 6, sequenceOf({ sampling: { topK: 3 } }));
    expect([...kept.keys()].sort()).toEqual([1, 2, 4]);
    const greedy = finalDistribution(logits, 6, sequenceOf({ sampling: { greedy: true } }));
    expect([...greedy]).toEqual([[1, 1]]);
  });

  it('keeps one id at least, whatever the limits', () => {
    const logits = Float32Array.of(0, 3, 1);
    for (const limits of [{ topP: 1e-9 }, { minP: 1 }, { typicalP: 1e-9 }, { topK: 1 }]) {
      expect(finalDistribution(logits, 3, sequenceOf({ sampling: limits })).size).toBe(1);
    }
  });

  it('never holds padding or a masked id', () => {
    const logits = Float32Array.of(1, 2, 3, 99);
    const sequence = sequenceOf({ sampling: { minNewTokens: 1 }, endIds: [2] });
    expect([...finalDistribution(logits, 3, sequence).keys()]).toEqual([0, 1]);
  });
});
