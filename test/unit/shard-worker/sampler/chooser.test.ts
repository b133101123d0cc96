import { describe, expect, it } from 'vitest';
import type { Sampling } from '../../../../proto/control.js';
import { finalDistribution } from '../../../../shard-worker/sampler/distribution.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';
import { ChooserGroup, randomLogits, randomSampling, sequenceOf, type WholeRow } from './choosing.js';

const VOCAB = 1013;

function randomRow(random: ReturnType<typeof seededRandom>, vocabSize = VOCAB): WholeRow {
  const ids = (count: number): number[] =>
    Array.from({ length: count }, () => random.integer(0, vocabSize - 1));
  return {
    sequence: sequenceOf({
      sampling: randomSampling(random),
      promptIds: ids(random.integer(1, 50)),
      newIds: ids(random.integer(0, 50)),
      endIds: ids(2),
    }),
    logits: randomLogits(random, vocabSize),
  };
}

describe('the chooser', () => {
  it(`chooses the same at world size 1, 2, 3 and 4, on every rank, in any batch (seed ${testSeed})`, async () => {
    const random = seededRandom(testSeed);
    const groups = [1, 2, 3, 4].map(
      (worldSize) => new ChooserGroup(worldSize, VOCAB, worldSize === 3 ? 400 : 5),
    );
    for (let batch = 0; batch < 40; batch++) {
      const rows = Array.from({ length: random.integer(1, 12) }, () => randomRow(random));
      const expected = await groups[0]!.choose(rows);
      for (const group of groups.slice(1)) {
        for (const choices of await group.chooseOnAll(rows)) {
          for (const [row, choice] of choices.entries()) {
            const asked = JSON.stringify(rows[row]!.sequence.sampling);
            expect(choice.tokenId, asked).toBe(expected[row]!.tokenId);
            if (Number.isNaN(expected[row]!.logprob)) expect(choice.logprob, asked).toBeNaN();
            else expect(choice.logprob, asked).toBeCloseTo(expected[row]!.logprob, 6);
            expect(choice.topLogprobs.map(({ tokenId }) => tokenId)).toEqual(
              expected[row]!.topLogprobs.map(({ tokenId }) => tokenId),
            );
          }
        }
      }
      const alone = await new ChooserGroup(2, VOCAB).choose([rows.at(-1)!]);
      expect(alone[0]!.tokenId).toBe(expected.at(-1)!.tokenId);
    }
    // The batches were wide enough to need whole rows, so that path ran as well.
    expect(groups[1]!.gathers).toBeGreaterThan(40);
  });

  it(`draws what the whole row's distribution holds, and only that (seed ${testSeed})`, async () => {
    const random = seededRandom(testSeed + 1);
    const group = new ChooserGroup(2, VOCAB);
    for (let round = 0; round < 150; round++) {
      const row = randomRow(random);
      const [choice] = await group.choose([row]);
      expect(finalDistribution(row.logits, VOCAB, row.sequence).has(choice!.tokenId)).toBe(true);
    }
  });

  const DRAWS = 20_000;
  const followed: [string, Partial<Sampling>][] = [
    ['temperature', { temperature: 0.8 }],
    ['a high temperature', { temperature: 3 }],
    ['top_k', { topK: 20 }],
    ['top_p', { topP: 0.8 }],
    ['min_p and typical_p', { minP: 0.02, typicalP: 0.9 }],
  ];
  for (const [name, limits] of followed) {
    it(`draws by the probabilities, under ${name}`, async () => {
      const vocabSize = 300;
      const logits = randomLogits(seededRandom(11), vocabSize);
      const group = new ChooserGroup(2, vocabSize);
      const probabilities = finalDistribution(logits, vocabSize, sequenceOf({ sampling: limits }));
      const counts = new Map<number, number>();
      const rows = Array.from({ length: DRAWS }, (_, draw) => ({
        sequence: sequenceOf({
          // Seeds and positions both change: either alone must be random.
          sampling: { ...limits, seedLow: draw % 200, seedHigh: 3 },
          newIds: new Array<number>(Math.floor(draw / 200)).fill(0),
        }),
        logits,
      }));
      for (let start = 0; start < DRAWS; start += 500) {
        for (const { tokenId } of await group.choose(rows.slice(start, start + 500))) {
          counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1);
        }
      }
      // Rare ids together in one cell, as the test wants some in each.
      let rareExpected = 0;
      let rareFound = 0;
      let chiSquare = 0;
      let cells = 0;
      for (const [id, p] of probabilities) {
        const expected = p * DRAWS;
        const found = counts.get(id) ?? 0;
        if (expected < 20) {
          rareExpected += expected;
          rareFound += found;
          continue;
        }
        chiSquare += (found - expected) ** 2 / expected;
        cells += 1;
      }
      if (rareExpected > 5) {
        chiSquare += (rareFound - rareExpected) ** 2 / rareExpected;
        cells += 1;
      }
      const freedom = cells - 1;
      // Seeds are fixed: it fails by a change of the code only.
      expect(chiSquare).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom));
      expect([...counts.keys()].every((id) => probabilities.has(id))).toBe(true);
    });
  }

  it('takes the lowest of equal logits when greedy, wherever the slices are cut', async () => {
    const logits = new Float32Array(100);
    logits.fill(2, 30, 90);
    for (const worldSize of [1, 2, 3, 4]) {
      const row = { sequence: sequenceOf({ sampling: { greedy: true } }), logits };
      expect((await new ChooserGroup(worldSize, 100, 7).choose([row]))[0]!.tokenId).toBe(30);
    }
  });

  it('never chooses padding, even on a rank that holds nothing else', async () => {
    for (const sampling of [{ greedy: true }, {}, { topK: 3 }, { topP: 0.9 }, { typicalP: 0.9 }]) {
      const row = { sequence: sequenceOf({ sampling }), logits: Float32Array.of(1, 2, 3, 4, 5) };
      const [choice] = await new ChooserGroup(4, 5, 8).choose([row]);
      expect(choice!.tokenId).toBeLessThan(5);
    }
  });

  it("reports log-probabilities of the model's own distribution, before penalties and temperature", async () => {
    const logits = randomLogits(seededRandom(5), 400);
    const logSum = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);
    const best = order[0]!;
    const asks = { logprob: true, topLogprobs: 20, logitBias: { [order[50]!]: 100 } };
    const samplings: Partial<Sampling>[] = [
      { ...asks, greedy: true },
      { ...asks, temperature: 0.5 },
      { ...asks, topP: 0.9 },
      { ...asks, typicalP: 0.5 },
      { ...asks, topK: 5, repetitionPenalty: 1.5 },
    ];
    for (const worldSize of [1, 2, 4]) {
      const rows = samplings.map((sampling) => ({
        sequence: sequenceOf({ sampling, promptIds: [best] }),
        logits,
      }));
      for (const choices of await new ChooserGroup(worldSize, 400).chooseOnAll(rows)) {
        for (const choice of choices) {
          // The bias decides what is chosen, and is not seen in what is reported.
          expect(choice.tokenId).toBe(order[50]);
          expect(choice.logprob).toBeCloseTo(logits[order[50]!]! - logSum, 5);
          expect(choice.topLogprobs.map(({ tokenId }) => tokenId)).toEqual(order.slice(0, 20));
          for (const { tokenId, logprob } of choice.topLogprobs) {
            expect(logprob).toBeCloseTo(logits[tokenId]! - logSum, 5);
          }
        }
      }
    }
  });

  it('reports no log-probability unless asked', async () => {
    const row = { sequence: sequenceOf({ sampling: { greedy: true } }), logits: Float32Array.of(1, 2) };
    const [choice] = await new ChooserGroup(2, 2).choose([row]);
    expect(choice).toEqual({ tokenId: 1, logprob: Number.NaN, topLogprobs: [] });
  });

  it('asks for whole rows only when the nucleus reaches past the candidates, and for more candidates then', async () => {
    const vocabSize = 600;
    const flat = { sequence: sequenceOf({ sampling: { topP: 0.3 } }), logits: new Float32Array(vocabSize) };
    const peaked = { ...flat, logits: new Float32Array(vocabSize).fill(-20, 1) };
    const group = new ChooserGroup(2, vocabSize);
    await group.choose([peaked]);
    expect(group.gathers).toBe(1);
    await group.choose([peaked, flat]);
    expect(group.gathers).toBe(3);
    // 180 equal ids of 600 are needed, all from rank 0: 128 candidates are not enough, 256 are.
    await group.choose([flat]);
    expect(group.gathers).toBe(5);
    await group.choose([flat]);
    expect(group.gathers).toBe(6);
  });

  const bad: [string, number, Partial<Sampling>][] = [
    ['NaN', Number.NaN, { greedy: true }],
    ['infinity', Number.POSITIVE_INFINITY, {}],
    ['minus infinity', Number.NEGATIVE_INFINITY, { topK: 3 }],
    ['NaN', Number.NaN, { topP: 0.5, logprob: true }],
    ['NaN', Number.NaN, { typicalP: 0.5 }],
  ];
  for (const [name, value, sampling] of bad) {
    it(`fails a row of which one rank holds ${name}, on every rank, and chooses the others (${JSON.stringify(sampling)})`, async () => {
      for (const worldSize of [1, 2, 4]) {
        const logits = new Float32Array(100);
        logits[99] = value;
        const good = { sequence: sequenceOf({ sampling: { greedy: true } }), logits: new Float32Array(100) };
        const rows = [good, { sequence: sequenceOf({ sampling }), logits }, good];
        for (const choices of await new ChooserGroup(worldSize, 100).chooseOnAll(rows)) {
          expect(choices.map(({ tokenId }) => tokenId)).toEqual([0, -1, 0]);
          expect(choices.map(({ failure }) => failure?.code)).toEqual([undefined, 'INTERNAL', undefined]);
          expect(choices[1]?.failure?.message).toContain(
            `At position 1, 1 of rank ${worldSize - 1}'s logits are NaN or infinite`,
          );
        }
      }
    });
  }

  it('chooses under the most extreme penalties and biases', async () => {
    const logitBias = { 0: -100, 1: -100, 2: -100 };
    for (const extreme of [{ repetitionPenalty: 1e-310 }, { repetitionPenalty: 1e308 }, { logitBias }]) {
      for (const limits of [{ greedy: true }, { temperature: 1e-5 }, { topP: 0.5 }, { typicalP: 0.5 }]) {
        for (const worldSize of [1, 2]) {
          const sequence = sequenceOf({ sampling: { ...limits, ...extreme }, promptIds: [0, 2] });
          const rows = [{ sequence, logits: Float32Array.of(-1, 2, 3) }];
          const [choice] = await new ChooserGroup(worldSize, 3).choose(rows);
          expect(choice?.failure, JSON.stringify({ limits, extreme })).toBeUndefined();
        }
      }
    }
  });

  it('fails a row of which every id is masked, and no other', async () => {
    for (const sampling of [{ greedy: true }, {}, { topK: 2 }, { topP: 0.5 }, { typicalP: 0.5 }]) {
      for (const worldSize of [1, 2]) {
        const sequence = sequenceOf({ sampling: { ...sampling, minNewTokens: 1 }, endIds: [0, 1, 2] });
        const logits = Float32Array.of(1, 2, 3);
        const rows = [
          { sequence, logits },
          { sequence: sequenceOf({ sampling: { greedy: true } }), logits },
        ];
        for (const choices of await new ChooserGroup(worldSize, 3).chooseOnAll(rows)) {
          expect(choices[0]).toMatchObject({ tokenId: -1, failure: { code: 'BAD_REQUEST' } });
          expect(choices[0]?.failure?.message).toContain('all of the vocabulary is masked');
          expect(choices[1]).toMatchObject({ tokenId: 2 });
        }
      }
    }
  });

  it('chooses the same for a resumed sequence as for one that ran on', async () => {
    const logits = randomLogits(seededRandom(3), 200);
    const sampling = { temperature: 2, seedLow: 77 };
    const ranOn = sequenceOf({ sampling, promptIds: [1, 2], newIds: [3, 4] });
    const resumed = sequenceOf({ sampling, promptIds: [1, 2, 3, 4] });
    const group = new ChooserGroup(1, 200);
    const [a, b] = await group.choose([ranOn, resumed].map((sequence) => ({ sequence, logits })));
    expect(a).toEqual(b);
  });

  it('sends nothing for a step without rows', async () => {
    const group = new ChooserGroup(2, 10);
    expect(await group.choose([])).toEqual([]);
    expect(group.gathers).toBe(0);
  });
});
