/**
 * Rank 0's part: the shares of all ranks for one row, to one choice.
 *
 * In      one RowShare a rank, all of the row's kind
 * Out     a Choice, or null where the candidates do not prove it and the whole row is needed. Its failure, where none can be
 *         chosen: BAD_REQUEST where the request's own settings leave no token, INTERNAL where the model's logits are no numbers
 * Errors  none: what one request asks for must not fail the others of its step
 */
import type { RowFailure, Sampling, TopLogprob } from '../../proto/control.js';
import type { ErrorCode } from '../../proto/errors.js';
import type { ChooseSequence } from '../sequence.js';
import { type Choice, failedChoice } from './choice.js';
import { Distribution, type Floor, massOf } from './distribution.js';
import { GumbelNoise } from './noise.js';
import { effectiveTopK, type RowShare, ShareKind, wantsLogprob } from './row-share.js';

export class RowDecider {
  readonly #vocabSize: number;
  readonly #vocabPerRank: number;
  readonly #distribution: Distribution;
  readonly #noise = new GumbelNoise();
  readonly #floor: Floor = { logit: 0, id: 0 };
  /** Logit of the chosen id, after the processors. */
  #chosenLogit = 0;

  constructor(vocabSize: number, vocabPerRank: number) {
    this.#vocabSize = vocabSize;
    this.#vocabPerRank = vocabPerRank;
    this.#distribution = new Distribution(vocabSize);
  }

  decide(shares: readonly RowShare[], sequence: ChooseSequence): Choice | null {
    const { kind } = shares[0]!;
    for (let rank = 0; rank < shares.length; rank++) {
      const share = shares[rank]!;
      if (share.kind !== ShareKind.BAD_LOGITS) continue;
      return failedChoice(badLogits(share.badCount, rank, sequence));
    }
    let tokenId: number | null;
    if (kind === ShareKind.CANDIDATES) tokenId = this.#drawFromCandidates(shares, sequence);
    else if (kind === ShareKind.WHOLE) tokenId = this.#drawFromWhole(shares, sequence);
    else tokenId = this.#best(shares, kind === ShareKind.PERTURBED);
    if (tokenId === null) return null;
    if (tokenId < 0) return failedChoice(allMasked(sequence));
    const choice: Choice = { tokenId, logprob: Number.NaN, topLogprobs: [] };
    if (wantsLogprob(sequence.sampling)) this.#addLogprobs(choice, shares, sequence.sampling);
    return choice;
  }

  /** Shares are in the order of ids, so among equals the first has the lower id. */
  #best(shares: readonly RowShare[], perturbed: boolean): number {
    let tokenId = -1;
    let highest = Number.NEGATIVE_INFINITY;
    for (let rank = 0; rank < shares.length; rank++) {
      const share = shares[rank]!;
      const value = perturbed ? share.score : share.logit;
      if (share.id < 0 || value <= highest) continue;
      highest = value;
      tokenId = share.id;
      this.#chosenLogit = share.logit;
    }
    return tokenId;
  }

  #drawFromCandidates(shares: readonly RowShare[], sequence: ChooseSequence): number | null {
    const distribution = this.#distribution;
    const { sampling } = sequence;
    distribution.clear();
    let max = Number.NEGATIVE_INFINITY;
    for (const { candidates } of shares) {
      if (candidates.count > 0) max = Math.max(max, candidates.logits[0]!);
    }
    // Behind the best last candidate of a rank that has more, that rank's others may belong.
    let floor: Floor | null = null;
    let mass = 0;
    const hasTopK = effectiveTopK(sampling, this.#vocabSize) > 0;
    for (const { candidates, complete, mass: shareMass } of shares) {
      const { count, ids, logits } = candidates;
      for (let i = 0; i < count; i++) distribution.offer(ids[i]!, logits[i]!);
      if (count === 0) continue;
      mass += shareMass * Math.exp((logits[0]! - max) / sampling.temperature);
      // Every rank offers its k first: the k first of all are among them.
      if (complete || hasTopK) continue;
      const logit = logits[count - 1]!;
      const id = ids[count - 1]!;
      if (floor === null || logit > floor.logit || (logit === floor.logit && id < floor.id)) {
        floor = this.#floor;
        floor.logit = logit;
        floor.id = id;
      }
    }
    return distribution.keep(sampling, floor, mass) ? this.#draw(sequence) : null;
  }

  #drawFromWhole(shares: readonly RowShare[], sequence: ChooseSequence): number {
    const distribution = this.#distribution;
    const { sampling } = sequence;
    distribution.clear();
    let max = Number.NEGATIVE_INFINITY;
    const needsMass = sampling.topP < 1 && effectiveTopK(sampling, this.#vocabSize) === 0;
    for (let rank = 0; rank < shares.length; rank++) {
      const whole = shares[rank]!.whole!;
      distribution.offerAll(whole, rank * this.#vocabPerRank);
      if (needsMass) for (let i = 0; i < whole.length; i++) max = Math.max(max, whole[i]!);
    }
    let mass = 0;
    if (needsMass) for (const share of shares) mass += massOf(share.whole!, sampling.temperature, max);
    distribution.keep(sampling, null, mass);
    return this.#draw(sequence);
  }

  #draw({ sampling, promptIds, newIds }: ChooseSequence): number {
    this.#noise.prepare(sampling.seedLow, sampling.seedHigh, promptIds.length + newIds.length);
    const at = this.#distribution.draw(sampling.temperature, this.#noise);
    if (at < 0) return -1;
    this.#chosenLogit = this.#distribution.logits[at]!;
    return this.#distribution.ids[at]!;
  }

  #addLogprobs(choice: Choice, shares: readonly RowShare[], sampling: Sampling): void {
    let max = Number.NEGATIVE_INFINITY;
    for (const share of shares) if (share.rawSum > 0) max = Math.max(max, share.rawMax);
    let sum = 0;
    for (const share of shares) if (share.rawSum > 0) sum += share.rawSum * Math.exp(share.rawMax - max);
    const logSum = max + Math.log(sum);
    const owner = shares[Math.floor(choice.tokenId / this.#vocabPerRank)]!;
    choice.logprob = (owner.saved.get(choice.tokenId) ?? this.#chosenLogit) - logSum;
    choice.topLogprobs = mergeTop(shares, sampling.topLogprobs, logSum);
  }
}

function mergeTop(shares: readonly RowShare[], count: number, logSum: number): TopLogprob[] {
  const top: TopLogprob[] = [];
  const next = shares.map(() => 0);
  while (top.length < count) {
    let from = -1;
    for (let rank = 0; rank < shares.length; rank++) {
      const { rawTop } = shares[rank]!;
      if (next[rank]! >= rawTop.count) continue;
      if (from < 0 || rawTop.logits[next[rank]!]! > shares[from]!.rawTop.logits[next[from]!]!) from = rank;
    }
    if (from < 0) break;
    const { ids, logits } = shares[from]!.rawTop;
    top.push({ tokenId: ids[next[from]!]!, logprob: logits[next[from]!]! - logSum });
    next[from]! += 1;
  }
  return top;
}

const failureOf = (code: ErrorCode, message: string): RowFailure => ({ code, message });

/** Penalties and biases are kept within numbers (processors.ts): what is none came from the model. */
const badLogits = (count: number, rank: number, { newIds, promptIds }: ChooseSequence): RowFailure =>
  failureOf(
    'INTERNAL',
    `At position ${promptIds.length + newIds.length}, ${count} of rank ${rank}'s logits are NaN or infinite; ` +
      "the model's weights or its shards are damaged",
  );

function allMasked({ mask, newIds, sampling }: ChooseSequence): RowFailure {
  if (mask || sampling.allowedIds.length > 0 || sampling.badWords.length > 0) {
    return failureOf(
      'BAD_REQUEST',
      `No token can be chosen for new token ${newIds.length + 1}: what the answer's form, allowed_token_ids, bad_words and ` +
        `min_tokens (${sampling.minNewTokens}) allow together is nothing`,
    );
  }
  return failureOf(
    'BAD_REQUEST',
    `No token can be chosen for new token ${newIds.length + 1}: all of the vocabulary is masked ` +
      `(the first ${sampling.minNewTokens} may not be an end or stop token)`,
  );
}
