/** A model's tokenizer, as transports may ask it: /tokenize and its like. */
import type { Prompt } from './generate-request.js';

export interface ModelTokens {
  /** Tokens that a prompt and its answer may have together. */
  readonly contextLength: number;
  /** @param addSpecialTokens of a text; a chat's template writes its own @throws ServingError */
  encode(prompt: Prompt, addSpecialTokens: boolean, signal: AbortSignal): Promise<readonly number[]>;
  /** @throws ServingError BAD_REQUEST: an id outside the vocabulary */
  decode(ids: readonly number[]): string;
  /** The text of each in a row of them; '' where a character is not whole yet. */
  pieces(ids: readonly number[]): string[];
  /** One token's, as it stands in the middle of a text. */
  text(id: number): string;
}
