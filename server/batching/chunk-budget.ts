/**
 * How many prompt tokens the next step runs, from the load and from what steps cost (step-cost.ts).
 *
 * In      the load: sequences that decode, prompts that run or could start; tokens and time of each step that ran
 * Out     prompt tokens of the next step
 * Limits  MIN_TOKENS (MIN_TOKENS_ALONE when nothing decodes) … maxTokens; START_TOKENS before anything is known
 * Pure    times are arguments
 *
 * While sequences decode, their next token waits for the step, so a step may take what `gapMs` allows. How much of that
 * prompts get is the policy's: all of it (throughput), or the more the more prompts wait for each stream that runs (balanced,
 * latency). Where the decodes alone take longer than the gap that people want, it cannot be kept, and prompts get a share all the
 * same: nobody starves. Decisions with measurements: README.
 */
import { StepCost } from './step-cost.js';

export type Scheduling = 'throughput' | 'balanced' | 'latency';

export interface ChunkBudgetOptions {
  /** Largest pause between two tokens of a stream that a prompt beside it may cause (option.max_token_gap_ms). */
  gapMs: number;
  scheduling: Scheduling;
  /** Prompt tokens of one step, whatever its time. */
  maxTokens: number;
  /** What a piece of a prompt may take beside streams at most (option.prefill_chunk_ms); null: only `gapMs` bounds it. */
  chunkMs?: number | null;
}

export interface Load {
  /** Sequences that get a token in the step. */
  decodes: number;
  /** Prompts that run or could start now. */
  prompts: number;
}

/** The first piece of a prompt may find others running, and nothing is known of the machine yet. */
const START_TOKENS = 16;
const MIN_TOKENS = 8;
/**
 * Shorter chunks read the weights too often: two of 64 for a prompt of 128 made its first token 3 to 8 % later (1.1 billion weights
 * on two cores, medians of 8 in turns).
 */
const MIN_TOKENS_ALONE = 128;
/** Gaps that a step may take while no sequence decodes: only a cancel and a request that comes meanwhile wait for it. */
const ALONE_FACTOR = 4;
/** A share of the gap: what steps of one size take differs. */
const AIM = 0.85;
/** A share of the decodes' time, for prompts, where the decodes leave nothing of the gap. */
const LEAST_SHARE = 0.25;

export class ChunkBudget {
  readonly #options: ChunkBudgetOptions;
  readonly #cost = new StepCost();

  constructor(options: ChunkBudgetOptions) {
    this.#options = options;
  }

  tokens({ decodes, prompts }: Load): number {
    const { chunkMs = null, gapMs, scheduling } = this.#options;
    if (decodes === 0) {
      return this.#within(gapMs * ALONE_FACTOR, 0, MIN_TOKENS_ALONE, MIN_TOKENS_ALONE);
    }
    const decodeMs = this.#cost.ms(decodes) ?? 0;
    const room = (gapMs * AIM - decodeMs) * shareOf(scheduling, prompts / Math.max(1, prompts + decodes));
    const promptMs = Math.max(room, decodeMs * LEAST_SHARE);
    const ms = decodeMs + Math.min(promptMs, chunkMs ?? Number.POSITIVE_INFINITY);
    return this.#within(ms, decodes, MIN_TOKENS, START_TOKENS);
  }

  /** @param allTokens of a step, decodes included */
  observe(allTokens: number, stepMs: number): void {
    this.#cost.observe(allTokens, stepMs);
  }

  #within(ms: number, besides: number, least: number, start: number): number {
    const all = this.#cost.tokensWithin(ms);
    const wanted = all === null ? start : all - besides;
    return Math.max(1, Math.min(Math.max(wanted, least), this.#options.maxTokens));
  }
}

/** @param waiting share of prompts among all that want a part of the step */
function shareOf(scheduling: Scheduling, waiting: number): number {
  if (scheduling === 'throughput') return 1;
  return scheduling === 'balanced' ? Math.sqrt(waiting) : waiting;
}
