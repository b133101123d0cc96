/**
 * Logit processors: what the request and the history do to the logits before a token is chosen, in the order of the list PROCESSORS.
 * A new one is an entry there.
 *
 * In      this rank's slice of a row, changed in place; the sequence
 * Cost    of the order of the history and the bias list; of the vocabulary only where ids are allowed
 * Limits  a logit that overflows float32 is held at ±3.4e38, so that what follows stays finite
 * Source  repetition penalty and minimum length: transformers' logits processors of those names; presence and frequency
 *         penalty and bias: OpenAI's API reference
 */
import type { ChooseSequence } from '../sequence.js';
import { keepBits, MASKED } from './keep-bits.js';

const LARGEST = 3.4e38;

/** Changes the logits of a row where the sequence asks for it. @returns whether it may have */
type Processor = (slice: Slice, sequence: ChooseSequence) => boolean;

const PROCESSORS: readonly Processor[] = [
  repetitionPenalty,
  presenceAndFrequencyPenalty,
  logitBias,
  minNewTokens,
  badWords,
  allowedIds,
  rowMask,
];

const NONE: readonly number[] = [];

export class Processors {
  readonly #slice: Slice;

  /** @param base first id of the slice @param count ids in it, padding excluded */
  constructor(base: number, count: number) {
    this.#slice = new Slice(base, count);
  }

  /**
   * @param saved where given: takes the logit of each changed id as the model made it
   * @param allFinite all logits are numbers, as is known: what the model made infinite or NaN need not be looked for
   * @returns whether a logit may have changed
   */
  apply(
    logits: Float32Array,
    sequence: ChooseSequence,
    saved: Map<number, number> | null,
    allFinite = false,
  ): boolean {
    const slice = this.#slice;
    slice.begin(logits, saved, allFinite);
    // What is forced is chosen whatever else the request says.
    const forced = sequence.forcedIds?.[sequence.newIds.length];
    if (forced !== undefined) {
      slice.keepListed([forced]);
      return true;
    }
    let changed = false;
    for (const processor of PROCESSORS) if (processor(slice, sequence)) changed = true;
    return changed;
  }
}

/** Whether most of the vocabulary may be masked. */
export const masksMost = ({ forcedIds, mask = null, newIds, sampling }: ChooseSequence): boolean =>
  mask !== null || sampling.allowedIds.length > 0 || forcedIds?.[newIds.length] !== undefined;

/** Once an id, prompt included. */
function repetitionPenalty(slice: Slice, { newIds, promptIds, sampling }: ChooseSequence): boolean {
  const penalty = sampling.repetitionPenalty;
  if (penalty === 1) return false;
  const penalise = (logit: number): number => (logit < 0 ? logit * penalty : logit / penalty);
  slice.forEachOnce([promptIds, newIds], penalise);
  return true;
}

function presenceAndFrequencyPenalty(slice: Slice, sequence: ChooseSequence): boolean {
  const { frequencyPenalty, presencePenalty } = sequence.sampling;
  if (presencePenalty === 0 && frequencyPenalty === 0) return false;
  const { forcedIds = NONE, newIds } = sequence;
  const own = forcedIds.length === 0 ? newIds : newIds.slice(forcedIds.length);
  slice.forEachCounted(own, (logit, count) => logit - presencePenalty - frequencyPenalty * count);
  return true;
}

function logitBias(slice: Slice, { sampling }: ChooseSequence): boolean {
  let changed = false;
  for (const key in sampling.logitBias) {
    changed = true;
    slice.change(Number(key), (logit) => logit + sampling.logitBias[key]!);
  }
  return changed;
}

function minNewTokens(slice: Slice, { endIds, forcedIds = NONE, newIds, sampling }: ChooseSequence): boolean {
  if (newIds.length - forcedIds.length >= sampling.minNewTokens) return false;
  for (const id of endIds) slice.mask(id);
  return true;
}

/** The last id, where the new tokens end with those before it. */
function badWords(slice: Slice, { newIds, sampling }: ChooseSequence): boolean {
  let changed = false;
  for (const { ids } of sampling.badWords) {
    const before = ids.length - 1;
    const from = newIds.length - before;
    if (from < 0 || ids.some((id, index) => index < before && newIds[from + index] !== id)) continue;
    if (slice.maskFinite(ids[before]!)) changed = true;
  }
  return changed;
}

function allowedIds(slice: Slice, { sampling }: ChooseSequence): boolean {
  if (sampling.allowedIds.length === 0) return false;
  slice.keepListed(sampling.allowedIds);
  return true;
}

/** Where it is masked: what a constrained answer may go on with. */
function rowMask(slice: Slice, { mask = null }: ChooseSequence): boolean {
  if (mask === null) return false;
  if (mask.bits.length > 0) slice.keepBits(mask.bits);
  else slice.keepListed(mask.ids);
  return true;
}

/** A rank's slice of a row's logits; ids of other slices are passed over. All memory is kept between rows. */
class Slice {
  readonly #base: number;
  readonly #count: number;
  /** Round in which an id was last seen: no clearing between rows. */
  readonly #seen: Int32Array;
  readonly #occurrences: Int32Array;
  #round = 0;
  /** A bit an id of the slice, while a list of ids is applied. */
  readonly #listed: Uint8Array;
  #logits: Float32Array = new Float32Array(0);
  #saved: Map<number, number> | null = null;
  #allFinite = false;

  constructor(base: number, count: number) {
    this.#base = base;
    this.#count = count;
    this.#seen = new Int32Array(count);
    this.#occurrences = new Int32Array(count);
    this.#listed = new Uint8Array((count + 7) >> 3);
  }

  begin(logits: Float32Array, saved: Map<number, number> | null, allFinite: boolean): void {
    this.#logits = logits;
    this.#saved = saved;
    this.#allFinite = allFinite;
  }

  /** Each id of the lists once. */
  forEachOnce(lists: readonly (readonly number[])[], next: (logit: number) => number): void {
    this.#round += 1;
    for (const ids of lists) {
      for (let i = 0; i < ids.length; i++) {
        const at = ids[i]! - this.#base;
        if (at < 0 || at >= this.#count || this.#seen[at] === this.#round) continue;
        this.#seen[at] = this.#round;
        this.#set(at, next(this.#logits[at]!));
      }
    }
  }

  /** Each id once, with how often it occurs. */
  forEachCounted(ids: readonly number[], next: (logit: number, count: number) => number): void {
    const base = this.#base;
    const count = this.#count;
    const occurrences = this.#occurrences;
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at >= 0 && at < count) occurrences[at] = occurrences[at]! + 1;
    }
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at < 0 || at >= count || occurrences[at] === 0) continue;
      this.#set(at, next(this.#logits[at]!, occurrences[at]!));
      occurrences[at] = 0;
    }
  }

  change(id: number, next: (logit: number) => number): void {
    const at = id - this.#base;
    if (at >= 0 && at < this.#count) this.#set(at, next(this.#logits[at]!));
  }

  mask(id: number): void {
    const at = id - this.#base;
    if (at < 0 || at >= this.#count) return;
    this.#save(at);
    this.#logits[at] = MASKED;
  }

  /** @returns whether it is in the slice, and a number */
  maskFinite(id: number): boolean {
    const at = id - this.#base;
    if (at < 0 || at >= this.#count || !Number.isFinite(this.#logits[at]!)) return false;
    // What is masked is never chosen: nobody asks what it was.
    this.#logits[at] = MASKED;
    return true;
  }

  keepListed(ids: readonly number[]): void {
    const base = this.#base;
    const count = this.#count;
    const listed = this.#listed;
    listed.fill(0);
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! - base;
      if (at >= 0 && at < count) listed[at >> 3]! |= 1 << (at & 7);
    }
    this.#keep(listed, 0);
  }

  /** @param bits id i of the vocabulary: bit i % 8 of byte i / 8 */
  keepBits(bits: Uint8Array): void {
    this.#keep(bits, this.#base);
  }

  /** What the model made infinite or NaN stays so: it has to be found. @param from bit of position 0 */
  #keep(bits: Uint8Array, from: number): void {
    const logits = this.#logits;
    const broken = new Map<number, number>();
    if (!this.#allFinite) {
      for (let at = 0; at < this.#count; at++) if (!Number.isFinite(logits[at]!)) broken.set(at, logits[at]!);
    }
    keepBits(logits, this.#count, bits, from);
    for (const [at, logit] of broken) logits[at] = logit;
  }

  #set(at: number, value: number): void {
    // What the model made infinite or NaN stays so: it has to be found.
    if (!Number.isFinite(this.#logits[at]!)) return;
    this.#save(at);
    this.#logits[at] = Math.max(-LARGEST, Math.min(LARGEST, value));
  }

  #save(at: number): void {
    const base = this.#base;
    const logits = this.#logits;
    const saved = this.#saved;
    if (saved !== null && !saved.has(base + at)) saved.set(base + at, logits[at]!);
  }
}
