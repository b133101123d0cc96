/**
 * The numbers of one registered model: what the pool and its batch loops tell, added up in plain fields.
 *
 * In      calls of the hot path (the work load manager knows this object as a WorkObserver)
 * Out     cells and counters that metric-set.ts and djl-metrics.ts read at a scrape
 * Limits  reasons are closed sets; nothing here grows with requests, except one bounded window of request-log.ts
 * Errors  none
 */
import type { Inspection } from '../../proto/control.js';
import { type ErrorCode, isErrorCode } from '../../proto/errors.js';
import { HistogramCells } from './histogram-cells.js';
import type { RequestLog } from './request-log.js';

/** What became of a request. */
export type Outcome = 'finished' | 'cancelled' | 'timeout' | 'refused' | 'failed';

/** What a rank says of itself, and how it stands beside the others. */
export interface RankReading extends Inspection {
  /** How many times as long as its peers it was busy lately; absent: nobody looks. */
  slowness?: number;
}

/** One worker group at this moment; `key` is the same object for its whole life. */
export interface GroupReading {
  key: object;
  state: string;
  sequencesRunning: number;
  slots: number;
  kvTokensUsed: number;
  kvTokensCapacity: number;
  kvTokensWarm?: number;
  kvTokensSwapped?: number;
  inspect: (() => Promise<readonly RankReading[]>) | null;
}

export interface PoolReading {
  ready: boolean;
  jobsWaiting: number;
  groups: readonly GroupReading[];
}

export interface ModelMetricsOptions {
  name: string;
  version: string | null;
  sample: () => PoolReading;
  /** With log_request_metric. */
  requestLog: RequestLog | null;
  /** A line of the model metric log; null: there is none. */
  line: ((name: string, unit: string, value: number) => void) | null;
  onError: (code: ErrorCode) => void;
  onLoadingFailed: () => void;
  /** A line of a handler. */
  onMetric?: (line: string) => void;
  onClosed: () => void;
  /** Who is told of each job too; absent: nobody. */
  listener?: JobListener;
}

/** What a server of another flavour tells by its own names. */
export interface JobListener {
  jobStarted(name: string, version: string, waitMs: number): void;
  jobEnded(name: string, version: string, durationMs: number): void;
  loaded(name: string, version: string, durationMs: number): void;
  custom(line: string): void;
}

// Bounds in seconds. A token of a small model takes a millisecond, a long prompt minutes.
const FIRST_TOKEN_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80];
const TOKEN_GAP_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5];
const QUEUE_BOUNDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const DURATION_BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120, 240, 480];
const STEP_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];
const BATCH_BOUNDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const MICROSECONDS = 1e6;
const inMicroseconds = (bounds: readonly number[]): number[] => bounds.map((bound) => bound * MICROSECONDS);

/** What brought a request. */
export type Transport = 'http' | 'grpc';

/** Milliseconds of a response. requests/request-times.ts has them so; these files know nobody else's. */
export interface AnsweredTimes {
  model: string;
  /** null: any. */
  version: string | null;
  totalMs: number;
  containerMs: number;
  modelMs: number;
  overheadMs: number;
}

const answerCells = () =>
  ({
    total: new HistogramCells(QUEUE_BOUNDS),
    container: new HistogramCells(QUEUE_BOUNDS),
    model: new HistogramCells(QUEUE_BOUNDS),
    overhead: new HistogramCells(QUEUE_BOUNDS),
  }) as const;

export class ModelMetrics {
  readonly name: string;
  /** '' for a model without versions: to Prometheus that is no label. */
  readonly version: string;
  readonly sample: () => PoolReading;

  readonly firstTokenSeconds = new HistogramCells(FIRST_TOKEN_BOUNDS);
  readonly tokenGapSeconds = new HistogramCells(TOKEN_GAP_BOUNDS);
  readonly queueSeconds = new HistogramCells(QUEUE_BOUNDS);
  readonly requestSeconds = new HistogramCells(DURATION_BOUNDS);
  readonly batchRows = new HistogramCells(BATCH_BOUNDS);
  readonly stepSeconds = {
    compute: new HistogramCells(STEP_BOUNDS),
    collective: new HistogramCells(STEP_BOUNDS),
    choose: new HistogramCells(STEP_BOUNDS),
  } as const;
  /** Requests by each transport, in SageMaker's parts. */
  readonly answerSeconds = { http: answerCells(), grpc: answerCells() } as const;
  /** DJLServing's, in its unit. */
  readonly queueUs = new HistogramCells(inMicroseconds(QUEUE_BOUNDS));
  readonly requestUs = new HistogramCells(inMicroseconds(DURATION_BOUNDS));

  promptTokens = 0;
  prefixQueriedTokens = 0;
  prefixHitTokens = 0;
  draftsTriedCount = 0;
  draftTokens = 0;
  acceptedDraftTokens = 0;
  generatedTokens = 0;
  /** When the last job ended; 0: none has. */
  lastEndedAtMs = 0;
  restarts = 0;
  resumed = 0;
  /** 0: not loaded yet. */
  loadUs = 0;
  /** To find its folder: a download, or nearly nothing. */
  fetchUs = 0;
  readonly #ends = new Map<string, { outcome: Outcome; reason: string; count: number }>();
  readonly #options: ModelMetricsOptions;

  constructor(options: ModelMetricsOptions) {
    this.#options = options;
    this.name = options.name;
    this.version = options.version ?? '';
    this.sample = options.sample;
  }

  /** Requests by outcome and reason: finish reasons and error codes in lower case. */
  get ends(): Iterable<{ outcome: Outcome; reason: string; count: number }> {
    return this.#ends.values();
  }

  /** Requests that ended with this error, refused or not. */
  endedWith(code: ErrorCode): number {
    let count = 0;
    for (const end of this.#ends.values()) if (end.reason === labelOf(code)) count += end.count;
    return count;
  }

  jobStarted(waitMs: number, promptTokens: number): void {
    this.queueSeconds.observe(waitMs / 1000);
    this.queueUs.observe(waitMs * 1000);
    this.promptTokens += promptTokens;
    this.#options.listener?.jobStarted(this.name, this.version, waitMs);
    this.#options.line?.('QueueTime', 'Microseconds', Math.round(waitMs * 1000));
  }

  firstToken(sinceReceivedMs: number): void {
    this.generatedTokens++;
    this.firstTokenSeconds.observe(sinceReceivedMs / 1000);
  }

  jobResumed(): void {
    this.resumed++;
  }

  prefixLookedUp(promptTokens: number, cachedTokens: number): void {
    this.prefixQueriedTokens += promptTokens;
    this.prefixHitTokens += cachedTokens;
  }

  draftsTried(drafts: number, accepted: number): void {
    this.draftsTriedCount++;
    this.draftTokens += drafts;
    this.acceptedDraftTokens += accepted;
  }

  nextToken(sinceLastMs: number): void {
    this.generatedTokens++;
    this.tokenGapSeconds.observe(sinceLastMs / 1000);
  }

  stepDone(rows: number, computeUs: number, collectiveUs: number, chooseUs: number): void {
    this.batchRows.observe(rows);
    this.stepSeconds.compute.observe(computeUs / MICROSECONDS);
    this.stepSeconds.collective.observe(collectiveUs / MICROSECONDS);
    this.stepSeconds.choose.observe(chooseUs / MICROSECONDS);
    this.#options.requestLog?.stepDone(rows);
  }

  jobEnded(ending: { reason: string; durationMs: number; newTokens: number }): void {
    const { durationMs, newTokens, reason } = ending;
    const outcome = isErrorCode(reason) ? outcomeOf(reason) : 'finished';
    this.#count(outcome, reason);
    this.#options.line?.('RequestLatency', 'Microseconds', Math.round(durationMs * 1000));
    if (reason === 'REQUEST_TIMEOUT') this.#options.line?.('RollingBatchTimeout', 'Count', 1);
    if (isErrorCode(reason)) this.#options.onError(reason);
    this.requestSeconds.observe(durationMs / 1000);
    this.requestUs.observe(durationMs * 1000);
    this.lastEndedAtMs = Date.now();
    this.#options.listener?.jobEnded(this.name, this.version, durationMs);
    if (outcome === 'finished') this.#options.requestLog?.requestDone(newTokens, durationMs * 1000);
  }

  answered(transport: Transport, times: AnsweredTimes): void {
    const { total, container, model, overhead } = this.answerSeconds[transport];
    total.observe(times.totalMs / 1000);
    container.observe(times.containerMs / 1000);
    model.observe(times.modelMs / 1000);
    overhead.observe(times.overheadMs / 1000);
  }

  refused(code: ErrorCode): void {
    this.#count(code === 'CANCELLED' ? 'cancelled' : 'refused', code);
    this.#options.onError(code);
  }

  groupRestarted(): void {
    this.restarts++;
  }

  loaded(durationMs: number, fetchMs = 0): void {
    this.loadUs = Math.round(durationMs * 1000);
    this.fetchUs = Math.round(fetchMs * 1000);
    this.#options.listener?.loaded(this.name, this.version, durationMs);
    this.#options.line?.('DownloadModel', 'Microseconds', this.fetchUs);
    this.#options.line?.('LoadModel', 'Microseconds', this.loadUs);
    this.#options.line?.('RegisterWorkflow', 'Microseconds', this.fetchUs + this.loadUs);
  }

  metricTold(line: string): void {
    this.#options.listener?.custom(line);
    this.#options.onMetric?.(line);
  }

  loadingFailed(): void {
    this.#options.onLoadingFailed();
  }

  /** Its series are gone from the next scrape on. */
  closed(): void {
    this.#options.onClosed();
  }

  #count(outcome: Outcome, reason: string): void {
    const key = `${outcome} ${reason}`;
    const end = this.#ends.get(key);
    if (end) end.count++;
    else this.#ends.set(key, { outcome, reason: labelOf(reason), count: 1 });
  }
}

const labelOf = (reason: string): string => reason.toLowerCase().replaceAll('-', '_');

function outcomeOf(code: ErrorCode): Outcome {
  if (code === 'CANCELLED') return 'cancelled';
  return code === 'REQUEST_TIMEOUT' || code === 'STEP_TIMEOUT' ? 'timeout' : 'failed';
}
