/**
 * How many prompt tokens fit the time of a prefill chunk, learned from the steps that ran (design D8).
 *
 * In      tokens and time of each step that ran prompt tokens
 * Out     `tokens`: the prompt tokens of the next step
 * Limits  MIN_TOKENS … maxTokens; starts with START_TOKENS, before anything is known
 * Pure    times are arguments
 *
 * The rate is a moving average over the steps, each weighted by how full its chunk was: the last three tokens of a prompt
 * pay for reading all weights and say little about the speed of a whole chunk.
 */
/** Some 50 ms of a model of a billion weights on two cores: the first chunk may find others running. */
const START_TOKENS = 16;
const MIN_TOKENS = 8;
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

  get tokens(): number {
    const wanted = this.#tokensPerMs === null ? START_TOKENS : Math.floor(this.#tokensPerMs * this.#chunkMs);
    return Math.max(1, Math.min(Math.max(wanted, MIN_TOKENS), this.#maxTokens));
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
