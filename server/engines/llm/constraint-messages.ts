/** What a constrainer and its process say to each other (constrainer.ts, constraint-program.ts). */
import type { AnswerConstraint } from '../../requests/answer-constraint.js';
import type { TokenTable } from '../../text/detokenizer.js';

export interface ConstraintStart {
  table: TokenTable;
  vocabSize: number;
  endIds: readonly number[];
}

export type ConstraintAsk =
  /** A text begins, or goes on behind these tokens. */
  | { kind: 'open'; text: number; constraint: AnswerConstraint; ids: readonly number[] }
  /** It has these more; `count` with them. */
  | { kind: 'next'; text: number; ids: readonly number[]; count: number };

export interface ConstraintTask {
  asks: readonly ConstraintAsk[];
  /** Texts that have ended. */
  ended: readonly number[];
}

export type ConstraintOutcome = ConstraintPlace | { isUnknown: true } | { code: string; message: string };

/** Where a text is. */
export interface ConstraintPlace {
  /** What was told in another one is not known any more. */
  generation: string;
  grammar: number;
  state: number;
  mask: number;
  /** Tokens since the state was exact, FAR_TOKENS at most; null: it is exact, and so is all that it leads to. */
  since: number | null;
  news: GrammarNews;
}

/** What was not told of a grammar before. */
export interface GrammarNews {
  /** The class of each byte; with the first news. */
  classOf?: number[];
  /** [state, its mask (UNKNOWN: none yet), then the state that each class of bytes leads to (NOWHERE, UNKNOWN)] */
  states: number[][];
  masks: ToldMask[];
}

/** Its ids, or base64 of a bit an id. */
export type ToldMask = { number: number } & ({ ids: number[] } | { bits: string });

export const NOWHERE = -1;
export const UNKNOWN = -2;
