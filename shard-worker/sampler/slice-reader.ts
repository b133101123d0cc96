/**
 * A rank's first stage: one row of its logits, and the sequence it belongs to, to a RowShare.
 *
 * In      logits of this rank's slice, changed in place by the processors
 * Out     a RowShare, without garbage: all memory is kept between rows
 * Cost    greedy: one pass over the slice. Temperature alone: one more, of hashes, over blocks that can win. top_k and min_p:
 *         the blocks that hold candidates. top_p without top_k, and log-probabilities: a sum of exponentials each
 */
import { MAX_CANDIDATES } from '../../proto/limits.js';
import type { ChooseSequence } from '../sequence.js';
import { type SliceScans, sliceScans } from './native-scan.js';
import { GumbelNoise } from './noise.js';
import { masksMost, Processors } from './processors.js';
import { effectiveTopK, type RowShare, ShareKind, shareKindOf, wantsLogprob } from './row-share.js';
import { bestPosition, blockCount, type Perturbed, TopCandidates } from './slice-scan.js';

export class SliceReader {
  /** First id of the slice, and the ids in it that are no padding. */
  readonly base: number;
  readonly count: number;
  readonly #vocabSize: number;
  readonly #processors: Processors;
  readonly #blockMax: Float32Array;
  readonly #scratch = new TopCandidates(MAX_CANDIDATES);
  readonly #noise = new GumbelNoise();
  readonly #perturbed: Perturbed = { position: -1, score: 0 };
  readonly #scans: SliceScans;

  constructor(rank: number, vocabSize: number, vocabPerRank: number) {
    this.#vocabSize = vocabSize;
    this.base = rank * vocabPerRank;
    this.count = Math.max(0, Math.min(vocabPerRank, vocabSize - this.base));
    this.#processors = new Processors(this.base, this.count);
    this.#blockMax = new Float32Array(blockCount(this.count));
    this.#scans = sliceScans(this.count);
  }

  /** @param nucleusCandidates how many candidates to offer where only top_p or min_p limits them */
  read(logits: Float32Array, sequence: ChooseSequence, nucleusCandidates: number, share: RowShare): void {
    const { count, base } = this;
    const blockMax = this.#blockMax;
    const { sampling } = sequence;
    const withLogprob = wantsLogprob(sampling);
    let scanned = false;
    if (withLogprob || masksMost(sequence)) {
      // Then the processors need not look for what is no number, id by id.
      if (!this.#scan(logits, share)) return;
      scanned = true;
    }
    if (withLogprob) {
      share.saved.clear();
      this.#readRaw(logits, sampling.topLogprobs, share);
    }
    const saved = withLogprob ? share.saved : null;
    if (this.#processors.apply(logits, sequence, saved, scanned)) scanned = false;
    if (!scanned && !this.#scan(logits, share)) return;

    share.kind = shareKindOf(sampling, this.#vocabSize);
    if (share.kind === ShareKind.WHOLE) {
      this.readWhole(logits, share);
    } else if (share.kind === ShareKind.CANDIDATES) {
      const topK = effectiveTopK(sampling, this.#vocabSize);
      const k = topK > 0 ? topK : nucleusCandidates;
      share.candidates.select(logits, count, base, blockMax, k, this.#scratch, this.#scans.reaching);
      share.complete = share.candidates.count < k || k >= count;
      const needsMass = topK === 0 && sampling.topP < 1 && share.candidates.count > 0;
      const max = share.candidates.logits[0]!;
      share.mass = needsMass
        ? this.#scans.sumOfExponentials(logits, count, blockMax, max, sampling.temperature)
        : 0;
    } else {
      const best = bestPosition(logits, count, blockMax);
      let winner = best;
      if (share.kind === ShareKind.PERTURBED) {
        const position = sequence.promptIds.length + sequence.newIds.length;
        this.#noise.prepare(sampling.seedLow, sampling.seedHigh, position);
        const noise = this.#noise;
        const perturbed = this.#perturbed;
        this.#scans.bestPerturbed(
          logits,
          count,
          base,
          blockMax,
          best,
          sampling.temperature,
          noise,
          perturbed,
        );
        winner = this.#perturbed.position;
        share.score = this.#perturbed.score;
      }
      share.id = winner < 0 ? -1 : base + winner;
      share.logit = winner < 0 ? 0 : logits[winner]!;
    }
  }

  /** The same row again after read, all of it. */
  readWhole(logits: Float32Array, share: RowShare): void {
    share.kind = ShareKind.WHOLE;
    share.whole = logits.length === this.count ? logits : logits.subarray(0, this.count);
  }

  /** @returns false where a logit is NaN or infinite; the share then says so */
  #scan(logits: Float32Array, share: RowShare): boolean {
    if (this.#scans.scanBlocks(logits, this.count, this.#blockMax)) return true;
    share.kind = ShareKind.BAD_LOGITS;
    share.badCount = 0;
    for (let i = 0; i < this.count; i++) if (!Number.isFinite(logits[i]!)) share.badCount += 1;
    return false;
  }

  #readRaw(logits: Float32Array, topLogprobs: number, share: RowShare): void {
    const { count, base } = this;
    const blockMax = this.#blockMax;
    const best = bestPosition(logits, count, blockMax);
    share.rawMax = best < 0 ? 0 : logits[best]!;
    share.rawSum = best < 0 ? 0 : this.#scans.sumOfExponentials(logits, count, blockMax, share.rawMax, 1);
    share.rawTop.count = 0;
    if (topLogprobs > 0) {
      share.rawTop.select(logits, count, base, blockMax, topLogprobs, this.#scratch, this.#scans.reaching);
    }
  }
}
