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

/** Where a request goes, and how urgent it is. */
export interface AddressedRequest {
  requestId: string;
  model: string;
  /** null: any. */
  version: string | null;
  /** Whole number, lower is served first; absent: DEFAULT_PRIORITY. */
  priority?: number;
  /** The client's deadline, counted from submit: REQUEST_TIMEOUT, and a job that still waits never runs. Absent or null: none. */
  timeoutMs?: number | null;
}

export interface GenerateRequest extends AddressedRequest {
  prompt: Prompt;
  /** null: generation_config.json's max_new_tokens, else as many as the context holds. */
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
  /** Keys and values of its prompt are shared only with requests of the same salt; absent: with all that have none. */
  cacheSalt?: string;
}

/** One text of which an embedding model makes a vector. */
export interface EmbedRequest extends AddressedRequest {
  task: 'embed';
  prompt: Exclude<Prompt, { kind: 'chat' }>;
  /** Tokens beyond the model's limit are cut off (true) or refused (false); null: as the model's configuration says. */
  truncate: boolean | null;
  /** What the client's dialect does where nobody says. */
  truncateDefault: boolean;
  /** Tokens beyond these are cut off; null: no other limit than the model's. */
  maxTokens: number | null;
  /** Length of the vector; null: the model's. */
  dimensions: number | null;
}

export type JobRequest = GenerateRequest | EmbedRequest;

export const isEmbedRequest = (request: JobRequest): request is EmbedRequest => 'task' in request;

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
  /** Of those, not computed again (prefix cache); absent: none. */
  cachedTokens?: number;
  /** Tokens made and counted: those after a stop string are not. */
  newTokens: number;
  seed: number;
  /** Of an EmbedRequest: the text's, and the only event there is (its reason is `length`: it has no new tokens). */
  vector?: readonly number[];
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
   * @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY, QUEUE_FULL, PROMPT_TOO_LONG, NO_CHAT_TEMPLATE, CHAT_TEMPLATE_LIMIT, BAD_REQUEST,
   *         SHUTTING_DOWN: nothing reached a worker. BAD_REQUEST also: a text asked of an embedding model, or the other way round
   */
  submit(request: JobRequest, signal: AbortSignal): Promise<Generation>;
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
  /** What it is for; null until it has been prepared. */
  task: 'text-generation' | 'text-embedding' | null;
  /** DJLServing's output formatter of the model; null: by `stream`. */
  outputFormatter: 'json' | 'jsonlines' | 'sse' | null;
}
