/**
 * How many prompt tokens fit the time of a prefill chunk, learned from the steps that ran (design D8).
 *
 * In      tokens and time of each step that ran prompt tokens
 * Out     the prompt tokens of the next step: `tokens`, or `tokensAlone` when nothing decodes
 * Limits  MIN_TOKENS (MIN_TOKENS_ALONE when nothing decodes) … maxTokens; starts with START_TOKENS, before anything is known
 * Pure    times are arguments
 *
 * The rate is a moving average over the steps, each weighted by how full its chunk was: the last three tokens of a prompt
 * pay for reading all weights and say little about the speed of a whole chunk.
 */
/** Some 50 ms of a model of a billion weights on two cores: the first chunk may find others running. */
const START_TOKENS = 16;
const MIN_TOKENS = 8;
/** Chunk times that a chunk may take while no sequence decodes. */
const ALONE_FACTOR = 5;
/**
 * Shorter chunks read the weights too often. A token in chunks of 16, 32, 64, 128 and 256 costs 12.6, 11.8, 11.0, 10.7 and 11.0 ms with int4,
 * 8.1, 6.6, 5.7, 5.2 and 5.0 with batch weights (1.1 billion weights, a slow machine, medians of 8 in turns): two of 64 for a prompt of 128
 * made its first token 3 and 8 % later.
 */
const MIN_TOKENS_ALONE = 128;
/** Weight of a full chunk's rate. */
const NEWEST_WEIGHT = 0.4;

export class ChunkBudget {
  readonly #chunkMs: number;
  readonly #maxTokens: number;
  #tokensPerMs: number | null = null;

  /**
   * @param chunkMs time a chunk may take
   * @param maxTokens prompt tokens of one step, whatever its time
   */
  constructor(chunkMs: number, maxTokens: number) {
    this.#chunkMs = chunkMs;
    this.#maxTokens = maxTokens;
  }

  /** Of a step beside decodes, whose next token waits for it. */
  get tokens(): number {
    return this.#tokensOf(this.#chunkMs, MIN_TOKENS);
  }

  /** Of a step without decodes: only a cancel and a request that comes meanwhile wait, and longer chunks cost less a token. */
  get tokensAlone(): number {
    return this.#tokensOf(this.#chunkMs * ALONE_FACTOR, MIN_TOKENS_ALONE);
  }

  #tokensOf(ms: number, least: number): number {
    const start = (START_TOKENS * ms) / this.#chunkMs;
    const wanted = this.#tokensPerMs === null ? start : Math.floor(this.#tokensPerMs * ms);
    return Math.max(1, Math.min(Math.max(wanted, least), this.#maxTokens));
  }

  /**
   * @param promptTokens of the step
   * @param allTokens of the step, decodes included
   */
  observe(promptTokens: number, allTokens: number, stepMs: number): void {
    if (promptTokens === 0 || stepMs <= 0) return;
    const rate = allTokens / stepMs;
    if (this.#tokensPerMs === null) {
      this.#tokensPerMs = rate;
      return;
    }
    const weight = NEWEST_WEIGHT * Math.min(1, promptTokens / this.tokens) ** 2;
    this.#tokensPerMs += weight * (rate - this.#tokensPerMs);
  }
}
