/**
 * Logit processors: what the request and the history do to the logits before a token is chosen, in this order:
 * repetition penalty (over prompt and new tokens), presence and frequency penalty (over new tokens), logit bias,
 * end ids masked before min_new_tokens, the ends of bad words, and all but the allowed ids (of the request, of the row's mask).
 *
 * In      this rank's slice of a row, changed in place; the sequence
 * Cost    of the order of the history and the bias list; of the vocabulary only where ids are allowed
 * Limits  a logit that overflows float32 is held at ±3.4e38, so that what follows stays finite
 * Source  repetition penalty and minimum length: transformers' logits processors of those names; presence and frequency
 *         penalty and bias: OpenAI's API reference
 */
import type { TokenMask } from '../../proto/control.js';
import type { Sequence } from '../sequence.js';

/** A logit of this value is never chosen. Finite, so that one check finds every NaN and infinity that the model made. */
export const MASKED = -3.4028234663852886e38;
const LARGEST = 3.4e38;

/** What a choice needs of a sequence. */
export type ChooseSequence = Pick<Sequence, 'promptIds' | 'newIds' | 'endIds' | 'sampling'> & {
  readonly sequence?: number;
  readonly mask?: TokenMask | null;
  readonly forcedIds?: readonly number[];
};

const NONE: readonly number[] = [];

export class Processors {
  private readonly base: number;
  private readonly count: number;
  /** Round in which an id was last seen: no clearing between rows. */
  private readonly seen: Int32Array;
  private readonly occurrences: Int32Array;
  private round = 0;
  /** A bit an id of the slice, while a list of ids is applied. */
  private readonly listed: Uint8Array;

  /** @param base first id of the slice @param count ids in it, padding excluded */
  constructor(base: number, count: number) {
    this.base = base;
    this.count = count;
    this.seen = new Int32Array(count);
    this.occurrences = new Int32Array(count);
    this.listed = new Uint8Array((count + 7) >> 3);
  }

  /**
   * @param saved where given: takes the logit of each changed id as the model made it
   * @returns whether a logit may have changed
   */
  apply(logits: Float32Array, sequence: ChooseSequence, saved: Map<number, number> | null): boolean {
    const { sampling, promptIds, newIds, forcedIds = NONE } = sequence;
    const forced = forcedIds[newIds.length];
    if (forced !== undefined) {
      this.keepListed(logits, [forced]);
      return true;
    }
    let changed = false;
    if (sampling.repetitionPenalty !== 1) {
      changed = true;
      this.round += 1;
      this.penaliseRepetition(logits, promptIds, sampling.repetitionPenalty, saved);
      this.penaliseRepetition(logits, newIds, sampling.repetitionPenalty, saved);
    }
    if (sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0) {
      changed = true;
      const own = forcedIds.length === 0 ? newIds : newIds.slice(forcedIds.length);
      this.penaliseOccurrence(logits, own, sampling.presencePenalty, sampling.frequencyPenalty, saved);
    }
    for (const key in sampling.logitBias) {
      changed = true;
      const at = Number(key) - this.base;
      if (at < 0 || at >= this.count) continue;
      this.set(logits, at, logits[at]! + sampling.logitBias[key]!, saved);
    }
    if (newIds.length - forcedIds.length < sampling.minNewTokens) {
      changed = true;
      for (const id of sequence.endIds) {
        const at = id - this.base;
        if (at < 0 || at >= this.count) continue;
        saveRaw(logits, at, this.base, saved);
        logits[at] = MASKED;
      }
    }
    for (const { ids } of sampling.badWords) if (this.maskBadWord(logits, ids, newIds)) changed = true;
    if (sampling.allowedIds.length > 0) {
      changed = true;
      this.keepListed(logits, sampling.allowedIds);
    }
    const { mask = null } = sequence;
    if (mask !== null) {
      changed = true;
      if (mask.bits.length > 0) keepBits(logits, this.count, mask.bits, this.base);
      else this.keepListed(logits, mask.ids);
    }
    return changed;
  }

  /** The last id, where the new tokens end with those before it. */
  private maskBadWord(logits: Float32Array, ids: readonly number[], newIds: readonly number[]): boolean {
    const before = ids.length - 1;
    const from = newIds.length - before;
    if (from < 0) return false;
    for (let i = 0; i < before; i++) if (newIds[from + i] !== ids[i]) return false;
    const at = ids[before]! - this.base;
    if (at < 0 || at >= this.count || !Number.isFinite(logits[at]!)) return false;
    // What is masked is never chosen: nobody asks what it was.
    logits[at] = MASKED;
    return true;
  }

  private keepListed(logits: Float32Array, ids: readonly number[]): void {
    const { base, count, listed } = this;
    listed.fill(0);
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at >= 0 && at < count) listed[at >> 3]! |= 1 << (at & 7);
    }
    keepBits(logits, count, listed, 0);
  }

  private penaliseRepetition(
    logits: Float32Array,
    ids: readonly number[],
    penalty: number,
    saved: Map<number, number> | null,
  ): void {
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - this.base;
      if (at < 0 || at >= this.count || this.seen[at] === this.round) continue;
      this.seen[at] = this.round;
      const logit = logits[at]!;
      this.set(logits, at, logit < 0 ? logit * penalty : logit / penalty, saved);
    }
  }

  private penaliseOccurrence(
    logits: Float32Array,
    ids: readonly number[],
    presence: number,
    frequency: number,
    saved: Map<number, number> | null,
  ): void {
    const { occurrences, base, count } = this;
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at >= 0 && at < count) occurrences[at] = occurrences[at]! + 1;
    }
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at < 0 || at >= count || occurrences[at] === 0) continue;
      this.set(logits, at, logits[at]! - presence - frequency * occurrences[at]!, saved);
      occurrences[at] = 0;
    }
  }

  private set(logits: Float32Array, at: number, value: number, saved: Map<number, number> | null): void {
    // What the model made infinite or NaN stays so: it has to be found.
    if (!Number.isFinite(logits[at]!)) return;
    saveRaw(logits, at, this.base, saved);
    logits[at] = Math.max(-LARGEST, Math.min(LARGEST, value));
  }
}

/** Masks what has no bit; what the model made infinite or NaN stays so: it has to be found. @param base id of position 0 */
function keepBits(logits: Float32Array, count: number, bits: Uint8Array, base: number): void {
  for (let at = 0, id = base; at < count; at++, id++) {
    if (((bits[id >> 3]! >> (id & 7)) & 1) === 0 && Number.isFinite(logits[at]!)) logits[at] = MASKED;
  }
}

function saveRaw(logits: Float32Array, at: number, base: number, saved: Map<number, number> | null): void {
  if (saved !== null && !saved.has(base + at)) saved.set(base + at, logits[at]!);
}
