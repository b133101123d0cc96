/**
 * Whether the load generator measured the server or itself.
 *
 * In      processor time of this process between two looks, less what it spent waiting by turns; how late requests started
 * Out     its use of a core; a sentence when it was the bottleneck, or null
 * Limits  one event loop makes the load: a whole core is all it has
 */
import type { Clock } from './clock.js';
import { SystemClock } from './clock.js';

/** A share of the one core that an event loop can use. */
const BUSY_CORE = 0.8;
/** A share of the mean latency: a start that is later than this makes the figure one of the generator. */
const LATE_SHARE = 0.1;
/** A timer's own fault; less says nothing. */
const LATE_FLOOR_MS = 3;

export interface OwnShare {
  cores: number;
  bottleneck: string | null;
}

export class OwnShareWatch {
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #cpu = process.cpuUsage();
  readonly #spinMs: number;

  constructor(clock: Clock = new SystemClock()) {
    this.#clock = clock;
    this.#startMs = clock.nowMs();
    this.#spinMs = clock.spinMs;
  }

  end(latenessP99Ms: number, latencyMeanMs: number | null): OwnShare {
    const wallMs = Math.max(1, this.#clock.nowMs() - this.#startMs);
    const { system, user } = process.cpuUsage(this.#cpu);
    const spunMs = this.#clock.spinMs - this.#spinMs;
    const usedCores = Math.max(0, (user + system) / 1000 - spunMs) / wallMs;
    return { cores: usedCores, bottleneck: bottleneckOf(usedCores, latenessP99Ms, latencyMeanMs) };
  }
}

export function bottleneckOf(
  usedCores: number,
  latenessP99Ms: number,
  latencyMeanMs: number | null,
): string | null {
  if (usedCores > BUSY_CORE) {
    return `the load generator used ${usedCores.toFixed(2)} cores of the one that it has: the figures are its own`;
  }
  const limitMs = Math.max(LATE_FLOOR_MS, LATE_SHARE * (latencyMeanMs ?? 0));
  if (latenessP99Ms > limitMs) {
    return `one request in a hundred was started ${latenessP99Ms.toFixed(1)} ms late or later (${limitMs.toFixed(1)} ms may be): the load generator did not get the processor`;
  }
  return null;
}
