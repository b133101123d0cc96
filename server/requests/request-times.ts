/**
 * Where the time of a request that asks a model goes, in SageMaker's four parts, whatever it came by.
 *
 * In      when its head and its body were there; the jobs that it became, by the signal that they run under
 * Out     Server-Timing: of a whole answer all parts, of a stream what is known when its head leaves; at its end the parts for /metrics
 * Limits  as many jobs as the request has; nothing is looked up a token
 * Errors  none
 *
 * total      from the request's head until its response has left
 * container  from its body: without the client's upload
 * model      from the first slot (or batch) that a job of it got until the last of them ended
 * overhead   container without model: checking, tokenising, waiting, wording
 */
import type { InferenceService, JobRequest, JobTimes } from './service.js';
import { watchedService } from './watched-service.js';

/** Milliseconds of a response that has ended. */
export interface TimeParts {
  model: string;
  version: string | null;
  totalMs: number;
  containerMs: number;
  modelMs: number;
  overheadMs: number;
}

const timesBySignal = new WeakMap<AbortSignal, RequestTimes>();

export class RequestTimes {
  readonly #headAtMs: number;
  #bodyAtMs: number;
  readonly #jobs: JobTimes[] = [];
  #asked: { model: string; version: string | null } | null = null;

  /** @param headAtMs of performance.now() */
  constructor(headAtMs = performance.now()) {
    this.#headAtMs = headAtMs;
    this.#bodyAtMs = headAtMs;
  }

  bodyRead(): void {
    this.#bodyAtMs = performance.now();
  }

  /** Jobs that are submitted with it are this request's. */
  follow(signal: AbortSignal): void {
    timesBySignal.set(signal, this);
  }

  /** A value of Server-Timing; null: no model was asked. */
  header(): string | null {
    const parts = this.parts();
    if (parts === null) return null;
    const { containerMs, modelMs, overheadMs, totalMs } = parts;
    const startedAtMs = this.#startedAtMs();
    const queueMs = startedAtMs - Math.min(...this.#jobs.map(({ queuedAtMs }) => queuedAtMs));
    const hasEnded = this.#jobs.every(({ endedAtMs }) => endedAtMs !== null);
    return [
      timing('total', totalMs),
      timing('container', containerMs),
      ...(Number.isFinite(startedAtMs) ? [timing('queue', queueMs)] : []),
      ...(hasEnded ? [timing('model', modelMs), timing('overhead', overheadMs)] : []),
    ].join(', ');
  }

  /** Until now; null: no model was asked. */
  parts(now = performance.now()): TimeParts | null {
    if (this.#asked === null) return null;
    const startedAtMs = this.#startedAtMs();
    const endedAtMs = Math.max(...this.#jobs.map((job) => job.endedAtMs ?? now));
    const containerMs = now - this.#bodyAtMs;
    const modelMs = Number.isFinite(startedAtMs) ? Math.max(0, endedAtMs - startedAtMs) : 0;
    return {
      ...this.#asked,
      ...{ totalMs: now - this.#headAtMs, containerMs, modelMs },
      overheadMs: Math.max(0, containerMs - modelMs),
    };
  }

  jobAccepted({ model, version }: JobRequest, times: JobTimes): void {
    this.#asked ??= { model, version };
    this.#jobs.push(times);
  }

  #startedAtMs(): number {
    return Math.min(...this.#jobs.map(({ startedAtMs }) => startedAtMs ?? Number.POSITIVE_INFINITY));
  }
}

/** The same service; the jobs of a request that is followed are noted. */
export function timedService(service: InferenceService): InferenceService {
  return watchedService(service, {
    accepted(one, request, signal) {
      if (one.times) timesBySignal.get(signal)?.jobAccepted(request, one.times);
      return one;
    },
  });
}

const timing = (name: string, ms: number): string => `${name};dur=${ms.toFixed(2)}`;
