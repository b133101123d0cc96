/**
 * What a job tells while it runs, in order, and last of all a FinishEvent: a token of a text each; or the one vector; or the one
 * value; or a head and its chunks. Plain data, the same for every dialect.
 */
import type { ContentHead } from './invoke-request.js';
import type { NamedTensor } from './predict-request.js';

/** A token as it stands in the middle of a text. */
export interface TokenText {
  text: string;
  /** Where it is a part of a character its text is the replacement character, and these are more than that. */
  bytes: readonly number[];
}

export interface TokenAlternative {
  tokenId: number;
  text: string;
  /** Absent: the text's. */
  bytes?: readonly number[];
  logprob: number;
}

/** One token. The texts of all tokens, in order, are the generated text. */
export interface TokenEvent {
  kind: 'token';
  tokenId: number;
  /** Text that became certain with this token; '' while a character or a possible stop string is incomplete. */
  text: string;
  special: boolean;
  /** NaN unless asked for. */
  logprob: number;
  topLogprobs: readonly TokenAlternative[];
  /** The token by itself; only where log-probabilities were asked for. */
  own?: TokenText;
}

/** A token of the prompt, where they are asked for; they come before the first TokenEvent. */
export interface PromptTokenEvent {
  kind: 'prompt-token';
  tokenId: number;
  own: TokenText;
  /** This token's behind those before it; NaN of the first. */
  logprob: number;
  topLogprobs: readonly TokenAlternative[];
}

export type FinishReason = 'end-id' | 'length' | 'stop-string';

/** The vector of a text that was to be embedded. */
export interface VectorEvent {
  kind: 'vector';
  vector: readonly number[];
}

/** What a model that knows no tokens made of a request's inputs. */
export interface ValueEvent {
  kind: 'value';
  outputs: readonly NamedTensor[];
}

/** How a handler's answer begins: its first event. */
export interface HeadEvent extends ContentHead {
  kind: 'head';
}

/** A piece of a handler's answer. */
export interface ChunkEvent {
  kind: 'chunk';
  bytes: Uint8Array;
}

/** The last event of a stream that ended well. A stream that does not throws a ServingError from its iterator. */
export interface FinishEvent {
  kind: 'finish';
  reason: FinishReason;
  /** Text held back until now; empty in most cases. Part of generatedText. */
  text: string;
  generatedText: string;
  promptTokens: number;
  /** So many of those were not computed again (prefix cache); absent: none. */
  cachedTokens?: number;
  /** Tokens made and counted: those after a stop string are not. */
  newTokens: number;
  seed: number;
  /** The request's stop string that ended it, or the id of its stop token; absent: neither did. */
  stop?: string | number;
}

export type GenerationEvent = PromptTokenEvent | TokenEvent | FinishEvent;

export type JobEvent =
  | PromptTokenEvent
  | TokenEvent
  | VectorEvent
  | ValueEvent
  | HeadEvent
  | ChunkEvent
  | FinishEvent;

/** The last event of a job that has no text. Its reason is `length`: it was done. */
export const finishWithoutText = (promptTokens: number): FinishEvent => ({
  kind: 'finish',
  reason: 'length',
  text: '',
  generatedText: '',
  promptTokens,
  newTokens: 0,
  seed: 0,
});
