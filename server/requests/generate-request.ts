/**
 * What a dialect makes of a client's request for text: plain data, the same for every dialect.
 *
 * A GenerateRequest is valid by itself (types, ranges); whether it fits the model is decided when it is submitted.
 */
import type { AddressedRequest } from './addressed-request.js';
import type { AnswerConstraint } from './answer-constraint.js';

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
  /** No other may be chosen; absent or empty: all. */
  allowedTokenIds?: readonly number[];
  /** None of these texts is written. */
  badWords?: readonly string[];
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
  | ({ kind: 'chat'; messages: readonly ChatMessage[] } & ChatOptions);

export interface ChatOptions {
  tools?: readonly unknown[];
  /** End with what opens the assistant's turn; default true. */
  addGenerationPrompt?: boolean;
  /** The last message is the assistant's, and goes on. */
  continueFinalMessage?: boolean;
  /** What the template may ask for besides. */
  templateOptions?: Readonly<Record<string, unknown>>;
}

export interface GenerateRequest extends AddressedRequest {
  kind: 'generate';
  prompt: Prompt;
  /** The last so many tokens of it are all that counts; -1: as many as leave room for the answer. Absent: all. */
  keptPromptTokens?: number;
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
  /** Tell the prompt's tokens, each with its log-probability and so many alternatives; absent: none. maxNewTokens may be 0 then. */
  promptLogprobs?: number;
  /** What form the answer must have; absent: any. */
  constraint?: AnswerConstraint;
  /** Keys and values of its prompt are shared only with requests of the same salt; absent: with all that have none. */
  cacheSalt?: string;
}
