/** What a step runs of one sequence. */
import type { Sequence } from './sequence.js';

/** Tokens of one sequence in a step, side by side in the packed activations. */
export interface Span {
  sequence: Sequence;
  /** Packed index of the first token. */
  offset: number;
  /** Drafts included. */
  count: number;
  /** Position of the first token in its sequence. */
  position: number;
  /** So many rows of output are wanted: the logits of its last tokens, or the text's vector. 0: none yet. */
  outputRows: number;
}
