/**
 * What a dialect makes of a client's request, and what it gets back: plain data, the same for every dialect.
 *
 * A GenerateRequest is valid by itself (types, ranges); whether it fits the model is decided by WorkLoadManager.submit.
 */

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

/** `priority` of a request that names none, as in DJLServing. */
export const DEFAULT_PRIORITY = 3;

export interface GenerateRequest {
  requestId: string;
  model: string;
  /** null: any. */
  version: string | null;
  prompt: Prompt;
  /** null: as many as the context holds. */
  maxNewTokens: number | null;
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
  /** Whole number, lower is served first; absent: DEFAULT_PRIORITY. */
  priority?: number;
  /** The client's deadline, counted from submit: REQUEST_TIMEOUT, and a job that still waits never runs. Absent or null: none. */
  timeoutMs?: number | null;
}

export interface TokenAlternative {
  tokenId: number;
  text: string;
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
}

export type FinishReason = 'end-id' | 'length' | 'stop-string';

/** The last event of a stream that ended well. A stream that does not throws a ServingError from its iterator. */
export interface FinishEvent {
  kind: 'finish';
  reason: FinishReason;
  /** Text held back until now; empty in most cases. Part of generatedText. */
  text: string;
  generatedText: string;
  promptTokens: number;
  /** Tokens made and counted: those after a stop string are not. */
  newTokens: number;
  seed: number;
}

export type GenerationEvent = TokenEvent | FinishEvent;

/** An accepted request. */
export interface Generation {
  promptTokens: number;
  /** Ends after the FinishEvent; throws ServingError. Leaving the loop early cancels the job. */
  events: AsyncIterable<GenerationEvent>;
}

/** What the HTTP and gRPC layers may ask of the work load manager. */
export interface GenerationService {
  /**
   * Resolves as soon as the job is queued.
   *
   * @param signal aborted when the client goes away: the job ends and its slot is freed at the next step
   * @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY, QUEUE_FULL, PROMPT_TOO_LONG, NO_CHAT_TEMPLATE, BAD_REQUEST,
   *         SHUTTING_DOWN: nothing reached a worker
   */
  submit(request: GenerateRequest, signal: AbortSignal): Promise<Generation>;
  /** Every registered model, sorted by name. */
  models(): readonly ModelStatus[];
}

export interface ModelStatus {
  name: string;
  version: string | null;
  state: 'PENDING' | 'READY' | 'FAILED';
  /** READY, but fewer groups run than should. */
  healthy: boolean;
  loadedAtStartup: boolean;
  registeredAtMs: number;
  contextLength: number;
  /** DJLServing's output formatter of the model; null: by `stream`. */
  outputFormatter: 'json' | 'jsonlines' | 'sse' | null;
}
