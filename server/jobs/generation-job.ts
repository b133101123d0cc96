/**
 * A job of a language model: its prompt as ids, and everything the batch loop needs to make tokens, or a vector, of it.
 *
 * In      a request that fits its model (engines/llm/make-job.ts)
 */
import type { Sampling, TokenMask } from '../../proto/control.js';
import type { EmbedRequest } from '../requests/embed-request.js';
import type { GenerateRequest } from '../requests/generate-request.js';
import { Job, type JobOptions } from './job.js';

export interface GenerationJobOptions extends Omit<JobOptions, 'eventCapacity'> {
  request: GenerateRequest | EmbedRequest;
  promptIds: readonly number[];
  /** Prompt and new tokens fit a slot. 0: the job yields a vector. */
  maxNewTokens: number;
  endIds: readonly number[];
  sampling: Sampling;
  /** The seed as told to the client, 0 … 2^53 − 1. */
  seed: number;
  /** Set in a job that yields a vector. */
  vectorShape?: VectorShape;
  /** Where the second of two texts begins in promptIds. Absent: there is none. */
  secondTextAt?: number;
  /** The prompt behind promptIds, told token by token with its log-probabilities: counted in maxNewTokens. Absent: nothing is told of it. */
  toldPrompt?: readonly number[];
  /** Absent: the answer is free. */
  constraint?: TokenConstraint;
  /** Its client may know how much of the prompt was there: others' prompts follow from it. Default: yes. */
  tellsCached?: boolean;
}

/** What the tokens of one answer may be. */
export interface TokenConstraint {
  readonly first: TokenMask;
  /** Bounds the token behind these new ones: at once where it is known. @throws ServingError: the answer cannot go on */
  maskAfter(newIds: readonly number[]): TokenMask | Promise<TokenMask>;
  /** The answer has ended. */
  release(): void;
}

/** The vector that a job shall yield. */
export interface VectorShape {
  /** null: as many as come, which are scores. */
  dimensions: number | null;
  /** It has length 1. */
  normalised: boolean;
  /** It is brought to length 1 in any case. */
  normalise: boolean;
}

export class GenerationJob extends Job {
  declare readonly request: GenerateRequest | EmbedRequest;
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly endIds: readonly number[];
  readonly sampling: Sampling;
  readonly seed: number;
  readonly vectorShape: VectorShape | null;
  readonly secondTextAt: number | null;
  readonly toldPrompt: readonly number[] | null;
  readonly constraint: TokenConstraint | null;
  readonly tellsCached: boolean;
  /** Those of its deaths in a row that came at one place (batching/resumption.ts), with a step of it in flight. */
  deathsHere = 0;
  /** New tokens at the last of those. */
  placeTokens = 0;
  /** The sequence (batching/sequence.ts) that a job was in the group it lost, to go on from. */
  lost: object | null = null;
  firstTokenAtMs: number | null = null;
  /** NaN before the first; never null, so that a write allocates nothing. */
  lastTokenAtMs = Number.NaN;

  constructor(options: GenerationJobOptions) {
    // A token event each, or the vector; and the finish.
    const told = options.toldPrompt === undefined ? 0 : 1;
    super({ ...options, eventCapacity: Math.max(1, options.maxNewTokens) + 1 + told });
    this.promptIds = options.promptIds;
    this.maxNewTokens = options.maxNewTokens;
    this.endIds = options.endIds;
    this.sampling = options.sampling;
    this.seed = options.seed;
    this.vectorShape = options.vectorShape ?? null;
    this.secondTextAt = options.secondTextAt ?? null;
    this.toldPrompt = options.toldPrompt ?? null;
    this.constraint = options.constraint ?? null;
    if (this.constraint !== null) void this.ended.then(() => this.constraint?.release());
    this.tellsCached = options.tellsCached ?? true;
  }
}
