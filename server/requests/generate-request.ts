/**
 * What a dialect makes of a client's request for text: plain data, the same for every dialect.
 *
 * A GenerateRequest is valid by itself (types, ranges); whether it fits the model is decided when it is submitted.
 */
import type { AddressedRequest } from './addressed-request.js';

/** Sampling as asked by the client: an absent field takes generation_config.json's value, then the dialect's default. */
export interface RequestSampling {
  /** false: greedy, whatever else is given. */
  doSample?: boolean;
  /** 0: greedy. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  typicalP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  minNewTokens?: number;
  logitBias?: Record<number, number>;
  /** 0 … 2^53 − 1; absent: random, and told in the result. */
  seed?: number;
}

export interface ChatMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

export type Prompt =
  | { kind: 'text'; text: string }
  | { kind: 'ids'; ids: readonly number[] }
  | { kind: 'chat'; messages: readonly ChatMessage[]; tools?: readonly unknown[] };

export interface GenerateRequest extends AddressedRequest {
  kind: 'generate';
  prompt: Prompt;
  /** null: usualNewTokens. */
  maxNewTokens: number | null;
  /**
   * What the client's dialect gives who asks for no number, or less where the context holds less; absent: generation_config.json's
   * max_new_tokens, else as many as the context holds.
   */
  usualNewTokens?: number;
  sampling: RequestSampling;
  /** What absent fields mean in the client's dialect. */
  samplingDefaults: RequestSampling;
  /** Generation ends before the first of them; none is part of the text unless includeStopString. */
  stopStrings: readonly string[];
  includeStopString: boolean;
  stopTokenIds: readonly number[];
  ignoreEndIds: boolean;
  skipSpecialTokens: boolean;
  /** Report log-probabilities of the chosen tokens. */
  logprob: boolean;
  /** And of so many alternatives, 0 … 20. */
  topLogprobs: number;
  /** Keys and values of its prompt are shared only with requests of the same salt; absent: with all that have none. */
  cacheSalt?: string;
}
