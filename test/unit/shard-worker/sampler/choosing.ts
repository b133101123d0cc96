/**
 * What the chooser's tests share: sequences with sampling, rows of logits, and a group of choosers in one process.
 */
import { GREEDY_SAMPLING, type Sampling } from '../../../../proto/control.js';
import { createInMemoryCollectives } from '../../../../shard-worker/collective/in-memory.js';
import { SingleRankCollective } from '../../../../shard-worker/collective/single-rank.js';
import type { Choice } from '../../../../shard-worker/sampler/choice.js';
import { Chooser } from '../../../../shard-worker/sampler/chooser.js';
import { Sequence } from '../../../../shard-worker/sequence.js';
import type { SeededRandom } from '../../../fixtures/seeded-random.js';

/** Temperature 1, nothing else. */
export const PLAIN: Sampling = { ...GREEDY_SAMPLING, greedy: false };

export interface SequenceParts {
  sampling?: Partial<Sampling>;
  promptIds?: number[];
  newIds?: number[];
  endIds?: number[];
}

export function sequenceOf({
  sampling = {},
  promptIds = [0],
  newIds = [],
  endIds = [],
}: SequenceParts): Sequence {
  const sequence = new Sequence({
    slot: 0,
    sequence: 1,
    promptIds,
    maxNewTokens: 1_000_000,
    endIds,
    sampling: { ...PLAIN, ...sampling },
  });
  for (const id of newIds) sequence.newIds.push(id);
  return sequence;
}

export interface WholeRow {
  sequence: Sequence;
  /** [vocabSize] */
  logits: Float32Array;
}

/** Choosers of one group, each with its slice of the vocabulary, the last padded. */
export class ChooserGroup {
  readonly choosers: Chooser[];
  readonly #collectives;
  readonly #vocabPerRank: number;
  #step = 0;

  constructor(
    worldSize: number,
    readonly vocabSize: number,
    padding = 0,
  ) {
    this.#vocabPerRank = Math.ceil(vocabSize / worldSize) + padding;
    this.#collectives = worldSize === 1 ? [new SingleRankCollective()] : createInMemoryCollectives(worldSize);
    this.choosers = this.#collectives.map(
      (collective) => new Chooser({ collective, vocabSize, vocabPerRank: this.#vocabPerRank }),
    );
  }

  get gathers(): number {
    return this.#collectives[0]!.counters.gathers;
  }

  /** Every rank's choices for copies of the rows; padding is filled with the largest logit there could be. */
  async chooseOnAll(rows: readonly WholeRow[]): Promise<Choice[][]> {
    this.#step += 1;
    const results = await Promise.allSettled(
      this.choosers.map((chooser, rank) =>
        chooser.choose(
          this.#step,
          10,
          rows.map(({ sequence, logits }) => {
            const slice = new Float32Array(this.#vocabPerRank).fill(1e30);
            slice.set(logits.subarray(rank * this.#vocabPerRank, (rank + 1) * this.#vocabPerRank));
            return { sequence, logits: slice };
          }),
        ),
      ),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined && results.some((result) => result.status === 'fulfilled')) {
      throw new Error('some ranks failed and others did not');
    }
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
  }

  async choose(rows: readonly WholeRow[]): Promise<Choice[]> {
    return (await this.chooseOnAll(rows))[0]!;
  }
}

/** Logits like a model's: many near each other, a few that stand out by more or less. */
export function randomLogits(random: SeededRandom, vocabSize: number): Float32Array {
  const logits = Float32Array.from({ length: vocabSize }, () => 2 * random.normal());
  const peak = random.next() * 10;
  for (let i = random.integer(0, 30); i > 0; i--) {
    logits[random.integer(0, vocabSize - 1)] = peak + 2 * random.normal();
  }
  return logits;
}

/** Any mixture of parameters, plain ones as often as exotic ones. */
export function randomSampling(random: SeededRandom): Partial<Sampling> {
  const maybe = <T>(value: T, off: T): T => (random.next() < 0.35 ? value : off);
  return {
    greedy: random.next() < 0.1,
    temperature: maybe(0.3 + 1.5 * random.next(), 1),
    topK: maybe(random.pick([1, 2, 40, 256, 300]), 0),
    topP: maybe(0.05 + 0.95 * random.next(), 1),
    minP: maybe(0.3 * random.next(), 0),
    typicalP: maybe(0.1 + 0.9 * random.next(), 1),
    repetitionPenalty: maybe(0.8 + random.next(), 1),
    presencePenalty: maybe(2 * random.next() - 1, 0),
    frequencyPenalty: maybe(2 * random.next() - 1, 0),
    minNewTokens: maybe(100, 0),
    seedLow: random.integer(0, 2 ** 32 - 1),
    seedHigh: random.integer(0, 2 ** 21),
    logitBias: maybe<Record<number, number>>({ [random.integer(0, 400)]: 5, 7: -100 }, {}),
    logprob: random.next() < 0.3,
    topLogprobs: maybe(random.integer(1, 20), 0),
  };
}
