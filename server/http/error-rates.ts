/**
 * Error limits of /ping: DJLServing's error_rate_* keys.
 *
 * In      each error of the inference paths with its status; limits of the configuration
 * Out     `tripped`: an error came when the bucket of its kind was empty. It stays so for the life of the process
 * Limits  a token bucket of `count` a kind, refilled evenly over its window
 * Pure    the clock is an argument
 * Source  DJLServing 0.36: error_rate_*. Unlike there a client's mistake counts for nothing, whatever its status (its 424 of a handler
 *         would count): six malformed bodies are no reason to take a server out of service
 */
import { type ErrorCode, ServingError, WLM_ERROR_CODES } from '../../proto/errors.js';
import type { ErrorRate, ServerConfig } from '../config/config.js';
import { LMI_INPUT_STATUS } from './dialects/djl/djl-errors.js';

type Kind = 'wlm' | 'server' | 'model' | 'any';
export type ErrorRateConfig = Pick<
  ServerConfig,
  'errorRateWlm' | 'errorRateServer' | 'errorRateModel' | 'errorRateAny'
>;

const MODEL_CODES: readonly ErrorCode[] = ['WORKER_FAILED', 'STEP_TIMEOUT'];

export class ErrorRates {
  readonly #buckets: ReadonlyMap<Kind, TokenBucket>;
  readonly #nowMs: () => number;
  #tripped = false;

  constructor(config: ErrorRateConfig, nowMs: () => number) {
    const rates: readonly [Kind, ErrorRate | null][] = [
      ['wlm', config.errorRateWlm],
      ['server', config.errorRateServer],
      ['model', config.errorRateModel],
      ['any', config.errorRateAny],
    ];
    const start = nowMs();
    this.#buckets = new Map(
      rates.flatMap(([kind, rate]) => (rate === null ? [] : [[kind, tokenBucket(rate, start)] as const])),
    );
    this.#nowMs = nowMs;
  }

  get tripped(): boolean {
    return this.#tripped;
  }

  count(code: ErrorCode, status: number): void {
    for (const kind of kindsOf(code, status)) {
      if (this.#buckets.get(kind)?.take(this.#nowMs()) === false) this.#tripped = true;
    }
  }
}

function kindsOf(code: ErrorCode, status: number): readonly Kind[] {
  if (new ServingError(code, '').httpStatus < 500) return [];
  const kinds: Kind[] = [];
  if (WLM_ERROR_CODES.includes(code)) kinds.push('wlm');
  else if (status >= 500 || status === LMI_INPUT_STATUS) kinds.push('server');
  if (status === LMI_INPUT_STATUS || MODEL_CODES.includes(code)) kinds.push('model');
  return kinds.length === 0 ? [] : [...kinds, 'any'];
}

interface TokenBucket {
  /** false: it was empty. */
  take(nowMs: number): boolean;
}

function tokenBucket({ count, windowMs }: ErrorRate, startMs: number): TokenBucket {
  let tokens = count;
  let filledAtMs = startMs;
  return {
    take(nowMs) {
      tokens = Math.min(count, tokens + ((nowMs - filledAtMs) / windowMs) * count);
      filledAtMs = nowMs;
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
  };
}
