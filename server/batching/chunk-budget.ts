/**
 * How many prompt tokens the next step runs, from the load and from what steps cost (step-cost.ts).
 *
 * In      the load: sequences that decode, prompts that run or could start, the rows behind which both stand; work and time of each
 *         step that ran
 * Out     prompt tokens of the next step
 * Limits  MIN_TOKENS … maxTokens; START_TOKENS, or MIN_TOKENS_ALONE, before anything is known
 * Pure    times are arguments
 *
 * While sequences decode, their next token waits for the step, so a step may take what `gapMs` allows, less a margin: what steps took
 * beyond what was expected of them, all but the worst few. How much of that prompts get is the policy's: all of it (throughput), or
 * the more the more prompts wait for each stream that runs (balanced, latency). Where the decodes alone take longer than the gap that
 * people want, it cannot be kept, and prompts get a share all the same: nobody starves. Decisions with measurements: README.
 */
import { StepCost, type StepWork } from './step-cost.js';

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
  /** Tokens behind the decodes' own that are guessed. */
  draftTokens?: number;
  /** Rows that the decodes attend to, over all of them. */
  decodePairs?: number;
  /** Rows before the step's prompt tokens, of the prompt that has most. */
  promptRows?: number;
}

/** The first piece of a prompt may find others running, and nothing is known of the machine yet. */
const START_TOKENS = 16;
const MIN_TOKENS = 8;
/**
 * Shorter chunks read the weights too often: two of 64 for a prompt of 128 made its first token 3 to 8 % later (1.1 billion weights
 * on two cores, medians of 8 in turns).
 */
const MIN_TOKENS_ALONE = 128;
/** But for a machine or a model on which they would take longer than that. */
const MIN_ALONE_MS = 2000;
/** Gaps that a step may take while no sequence decodes: only a cancel and a request that comes meanwhile wait for it. */
const ALONE_FACTOR = 4;
/** A share of the decodes' time, for prompts, where the decodes leave nothing of the gap. */
const LEAST_SHARE = 0.25;
/** How far beyond the largest step seen, in its tokens: where streams wait for it, and where none does. */
const REACH = 2;
const REACH_ALONE = 8;
/** What a step may take of what was expected, at first and between what bounds; noise of a twentieth either way needs 1.11. */
const MARGIN = { first: 1.2, least: 1.12, most: 2 };
/** How far it goes towards a step that took longer, and towards one that did not: few do. */
const MARGIN_RISE = 0.3;
const MARGIN_FALL = 0.01;

export class ChunkBudget {
  readonly #options: ChunkBudgetOptions;
  readonly #cost = new StepCost();
  #margin = MARGIN.first;

  constructor(options: ChunkBudgetOptions) {
    this.#options = options;
  }

  tokens(load: Load): number {
    const { chunkMs = null, gapMs, scheduling } = this.#options;
    const { decodes, prompts } = load;
    if (decodes === 0) return this.#alone(load);
    const decodeMs =
      this.#cost.ms({ tokens: decodes + (load.draftTokens ?? 0), pairs: load.decodePairs ?? 0 }) ?? 0;
    const room =
      (gapMs / this.#margin - decodeMs) * shareOf(scheduling, prompts / Math.max(1, prompts + decodes));
    const promptMs = Math.max(room, decodeMs * LEAST_SHARE);
    const ms = decodeMs + Math.min(promptMs, chunkMs ?? Number.POSITIVE_INFINITY);
    return this.#bounded(this.#within(ms, REACH, load) ?? START_TOKENS);
  }

  /** @param work of a step, decodes included */
  observe(work: StepWork, stepMs: number): void {
    const expected = this.#cost.ms(work);
    // A small step's wake-ups say little of the large ones that the gap is about.
    if (expected !== null && expected * 4 > this.#options.gapMs) this.#learnMargin(stepMs / expected);
    this.#cost.observe(work, stepMs);
  }

  #alone(load: Load): number {
    const tokens = this.#within(this.#options.gapMs * ALONE_FACTOR, REACH_ALONE, load);
    if (tokens === null) return this.#bounded(MIN_TOKENS_ALONE);
    const least = this.#within(MIN_ALONE_MS, REACH_ALONE, load) ?? MIN_TOKENS_ALONE;
    return this.#bounded(Math.max(tokens, Math.min(MIN_TOKENS_ALONE, least)));
  }

  /** Prompt tokens beside the decodes. */
  #within(ms: number, reach: number, load: Load): number | null {
    const { decodePairs = 0, decodes, draftTokens = 0, promptRows = 0 } = load;
    const besides = decodes + draftTokens;
    const all = this.#cost.tokensWithin(ms, reach, (tokens) => {
      const ofPrompts = Math.max(0, tokens - besides);
      return decodePairs + ofPrompts * (promptRows + ofPrompts / 2);
    });
    return all === null ? null : all - besides;
  }

  #bounded(tokens: number): number {
    return Math.max(1, Math.min(Math.max(tokens, MIN_TOKENS), this.#options.maxTokens));
  }

  #learnMargin(times: number): void {
    const weight = times > this.#margin ? MARGIN_RISE : MARGIN_FALL;
    const margin = this.#margin + weight * (Math.min(times, MARGIN.most) - this.#margin);
    this.#margin = Math.max(MARGIN.least, margin);
  }
}

/** @param waiting share of prompts among all that want a part of the step */
function shareOf(scheduling: Scheduling, waiting: number): number {
  if (scheduling === 'throughput') return 1;
  return scheduling === 'balanced' ? Math.sqrt(waiting) : waiting;
}
