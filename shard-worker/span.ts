/** What a step runs of one sequence. */
import type { Sequence } from './sequence.js';

/** Tokens of one sequence in a step, side by side in the packed activations. */
export interface Span {
  sequence: Sequence;
  /** Packed index of the first token. */
  offset: number;
  count: number;
  /** Position of the first token in its sequence. */
  position: number;
  /** Logits of the last token, or the text's vector, are wanted. */
  wantsLogits: boolean;
}
