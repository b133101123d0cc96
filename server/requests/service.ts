/**
 * What every transport (HTTP, gRPC) may ask of the work load manager to serve requests.
 *
 * In      a request of any kind
 * Out     its events, typed by the kind
 * Errors  ServingError
 */
import type { AnswerFormat } from './answer-format.js';
import type { EmbedRequest } from './embed-request.js';
import type { GenerateRequest } from './generate-request.js';
import type { InvokeRequest } from './invoke-request.js';
import type {
  ChunkEvent,
  FinishEvent,
  GenerationEvent,
  HeadEvent,
  JobEvent,
  ValueEvent,
  VectorEvent,
} from './job-events.js';
import type { ModelTokens } from './model-tokens.js';
import type { PredictRequest } from './predict-request.js';
import type { Signature } from './signature.js';
import type { TextLabels } from './text-labels.js';

export type JobRequest = GenerateRequest | EmbedRequest | PredictRequest | InvokeRequest;

/** What is told of a request of this kind. */
export type EventsOf<R extends JobRequest> = R extends GenerateRequest
  ? GenerationEvent
  : R extends EmbedRequest
    ? VectorEvent | FinishEvent
    : R extends InvokeRequest
      ? HeadEvent | ChunkEvent | FinishEvent
      : ValueEvent | FinishEvent;

/** An accepted request. */
export interface Accepted<E extends JobEvent = JobEvent> {
  /** 0 where there are no tokens. */
  promptTokens: number;
  /** Ends after the FinishEvent; throws ServingError. Leaving the loop early cancels the job. */
  events: AsyncIterable<E>;
  /** Filled in as it runs. Absent: nobody looks at the clock. */
  times?: JobTimes;
}

/** When what happened to a job, on the clock of performance.now(). */
export interface JobTimes {
  readonly queuedAtMs: number;
  /** When it got a slot, or its batch was taken; null before. */
  readonly startedAtMs: number | null;
  /** Null before. */
  readonly endedAtMs: number | null;
}

/** An accepted request for text. */
export type Generation = Accepted<GenerationEvent>;

/** What the HTTP and gRPC layers may ask of the work load manager. */
export interface InferenceService {
  /**
   * Resolves as soon as the job is queued.
   *
   * @param signal aborted when the client goes away: the job ends and its slot is freed at the next step
   * @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY, QUEUE_FULL, PROMPT_TOO_LONG, NO_CHAT_TEMPLATE, CHAT_TEMPLATE_LIMIT, BAD_REQUEST,
   *         SHUTTING_DOWN: nothing reached a worker. BAD_REQUEST also: a kind of request that the model does not answer
   */
  submit<R extends JobRequest>(request: R, signal: AbortSignal): Promise<Accepted<EventsOf<R>>>;
  /**
   * The tokenizer of a model. Absent: there is none to ask.
   *
   * @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY; BAD_REQUEST: the model knows no tokens
   */
  tokens?(model: string, version: string | null): ModelTokens;
  /**
   * The version that the next request without one gets, by the versions' weights: what is read and made of the request is of that
   * version. Absent: there is nothing to choose.
   *
   * @param session always the same version for it, as long as that one serves
   * @throws ServingError MODEL_NOT_FOUND
   */
  chooseVersion?(model: string, session: string | null): string | null;
  /** Every registered model, sorted by name. */
  models(): readonly ModelStatus[];
}

/** What a model is for. */
export type Task = 'text-generation' | 'text-embedding' | 'text-classification' | 'tensors' | 'handler';

export interface ModelStatus {
  name: string;
  version: string | null;
  state: 'PENDING' | 'READY' | 'FAILED';
  /** READY, but fewer groups run than should. */
  healthy: boolean;
  loadedAtStartup: boolean;
  registeredAtMs: number;
  /** Tokens of prompt and answer together; 0: it counts none. */
  contextLength: number;
  /** What it is for; null until it has been prepared. */
  task: Task | null;
  /** What it takes and gives, of a model of tensors; null: no tensors, or not known yet. */
  signature: Signature | null;
  /** How its answers say what it thinks and calls; null or absent: they are text. */
  answerFormat?: AnswerFormat | null;
  /** How DJLServing's requests are asked, where the model's own model.py says it; null or absent: as they say. */
  predictor?: {
    /** Where a request has none of that meaning. */
    readonly parameters: Readonly<Record<string, string | number | boolean>>;
    /** To a plain text. */
    readonly answer: 'list' | 'object' | 'text';
  } | null;
  /** Labels of a classifier of texts or tokens; null or absent: it is none. */
  labels?: TextLabels | null;
  /** How long a session of a client lasts; null or absent: it may open none. */
  sessionSeconds?: number | null;
  /** DJLServing's output formatter of the model, tgi: its tgi_compat, async: LMI's newer handler; null: by `stream`. */
  outputFormatter:
    | ('json' | 'jsonlines' | 'sse' | 'json_chat' | 'jsonlines_chat' | 'sse_chat' | 'tgi' | 'async')
    | null;
}
