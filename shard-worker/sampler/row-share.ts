/**
 * What one rank knows of one row after it went through its slice: enough, with the other ranks' shares, to choose.
 *
 *   greedy       its best id
 *   perturbed    its best id under noise (temperature alone: rank 0 needs no more)
 *   candidates   its k first ids, and the sum of exponentials over its slice where top_p runs over the whole vocabulary
 *   whole        every logit of the slice: typical_p alone, top_k above MAX_CANDIDATES, or a nucleus that reaches further
 *                than the candidates
 * and for rows that ask for log-probabilities, of the logits as the model made them: maximum, sum of exponentials, the first
 * top_logprobs ids, and the logits that processors changed.
 *
 * Wire    words (word-codec.ts); one share of a greedy row is 3 of them
 */
import assert from 'node:assert/strict';
import type { Sampling } from '../../proto/control.js';
import { MAX_CANDIDATES, MAX_TOP_LOGPROBS } from '../../proto/limits.js';
import { TopCandidates } from './slice-scan.js';
import type { WordReader, WordWriter } from './word-codec.js';

export const ShareKind = { GREEDY: 1, PERTURBED: 2, CANDIDATES: 3, WHOLE: 4, BAD_LOGITS: 5 } as const;
export type ShareKind = (typeof ShareKind)[keyof typeof ShareKind];

/** How a row is chosen at first: the same on every rank. */
export function shareKindOf(sampling: Sampling, vocabSize: number): ShareKind {
  if (sampling.greedy) return ShareKind.GREEDY;
  const topK = effectiveTopK(sampling, vocabSize);
  if (topK > MAX_CANDIDATES) return ShareKind.WHOLE;
  if (topK > 0 || sampling.topP < 1 || sampling.minP > 0) return ShareKind.CANDIDATES;
  return sampling.typicalP < 1 ? ShareKind.WHOLE : ShareKind.PERTURBED;
}

/** 0: off. */
export const effectiveTopK = (sampling: Sampling, vocabSize: number): number =>
  sampling.topK >= vocabSize ? 0 : sampling.topK;

export const wantsLogprob = (sampling: Sampling): boolean => sampling.logprob || sampling.topLogprobs > 0;

export class RowShare {
  kind: ShareKind = ShareKind.GREEDY;

  /** greedy, perturbed: id, or −1 where all of the slice is masked; its logit; perturbed: logit / T + noise. */
  id = -1;
  logit = 0;
  score = 0;

  /** candidates: in order; `complete` where the slice has no more. */
  candidates = new TopCandidates(MAX_CANDIDATES);
  complete = false;
  /** The sum of exp((logit − first candidate) / T) over the slice; 0 where not needed. */
  mass = 0;

  /** whole: logits of the slice, after the processors. A view that lives as long as the step. */
  whole: Float32Array | null = null;

  /** The largest of the slice as the model made it; only where wantsLogprob. Sum is of exp(logit − rawMax). */
  rawMax = 0;
  rawSum = 0;
  rawTop = new TopCandidates(MAX_TOP_LOGPROBS);
  /** id → logit before the processors, where they changed it. */
  readonly saved = new Map<number, number>();

  /** bad logits: how many of the slice are NaN or infinite. */
  badCount = 0;

  write(writer: WordWriter, sampling: Sampling): void {
    writer.int(this.kind);
    switch (this.kind) {
      case ShareKind.BAD_LOGITS:
        writer.int(this.badCount);
        return;
      case ShareKind.PERTURBED:
        writer.float64(this.score);
        writer.int(this.id);
        writer.float(this.logit);
        break;
      case ShareKind.GREEDY:
        writer.int(this.id);
        writer.float(this.logit);
        break;
      case ShareKind.CANDIDATES:
        writer.int(this.complete ? 1 : 0);
        writer.float64(this.mass);
        writeCandidates(writer, this.candidates);
        break;
      case ShareKind.WHOLE:
        assert(this.whole !== null);
        writer.int(this.whole.length);
        writer.floatArray(this.whole, this.whole.length);
        break;
    }
    if (!wantsLogprob(sampling)) return;
    writer.float(this.rawMax);
    writer.float64(this.rawSum);
    writeCandidates(writer, this.rawTop);
    writer.int(this.saved.size);
    for (const [id, logit] of this.saved) {
      writer.int(id);
      writer.float(logit);
    }
  }

  read(reader: WordReader, expected: ShareKind, sampling: Sampling): void {
    const kind = reader.int();
    if (kind === ShareKind.BAD_LOGITS) {
      this.kind = kind;
      this.badCount = reader.int();
      return;
    }
    assert(kind === expected, `a share of kind ${kind}, expected ${expected}`);
    this.kind = expected;
    switch (expected) {
      case ShareKind.PERTURBED:
        this.score = reader.float64();
        this.id = reader.int();
        this.logit = reader.float();
        break;
      case ShareKind.GREEDY:
        this.id = reader.int();
        this.logit = reader.float();
        break;
      case ShareKind.CANDIDATES:
        this.complete = reader.int() === 1;
        this.mass = reader.float64();
        readCandidates(reader, this.candidates);
        break;
      case ShareKind.WHOLE:
        this.whole = reader.floatArray(reader.int());
        break;
    }
    if (!wantsLogprob(sampling)) return;
    this.rawMax = reader.float();
    this.rawSum = reader.float64();
    readCandidates(reader, this.rawTop);
    this.saved.clear();
    for (let left = reader.int(); left > 0; left--) {
      const id = reader.int();
      this.saved.set(id, reader.float());
    }
  }
}

function writeCandidates(writer: WordWriter, candidates: TopCandidates): void {
  writer.int(candidates.count);
  writer.intArray(candidates.ids, candidates.count);
  writer.floatArray(candidates.logits, candidates.count);
}

function readCandidates(reader: WordReader, into: TopCandidates): void {
  const count = reader.int();
  assert(count >= 0 && count <= into.ids.length, `${count} candidates, at most ${into.ids.length}`);
  into.ids.set(reader.intArray(count));
  into.logits.set(reader.floatArray(count));
  into.count = count;
}
