/**
 * Measures a configuration of a real server: starts it, loads it over its sockets, watches it, stops it.
 *
 * In      questions, one after the other; the server of the last one is kept while the settings stay the same
 * Out     MeasurementBody; what cannot be served is an outcome with its reason, not an error
 * Limits  memory is read each SAMPLE_MS; of a server elsewhere (url) memory and processor time are not known
 * Errors  Error only of what no configuration can mend: a plan that does not fit the model
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SystemClock } from '../load/clock.js';
import { errorsByCode, figuresOf } from '../load/figures.js';
import type { LoadResult } from '../load/load-run.js';
import { OwnShareWatch } from '../load/own-share.js';
import type { RequestRecord } from '../load/request-record.js';
import type { TunePlan } from '../plan/tune-plan.js';
import { watchCpu } from '../target/cpu-use.js';
import { type InputDescription, modelInputs } from '../target/model-description.js';
import { cpuSeconds, gpuBytes, processTree, pssBytes } from '../target/process-readings.js';
import { meanMs, rankProfiles, type Scrape, scrape } from '../target/server-metrics.js';
import { ServerUnderTest } from '../target/server-under-test.js';
import { serverEnvironment, writeVariant } from '../target/variant-folder.js';
import { bytes, cores, milliseconds, money } from '../units/quantity.js';
import { type MeasurementBody, type ModelFigures, type Question, settingsKey } from './measurement.js';
import { runModelLoad } from './model-load.js';

/** A look holds this loop for some milliseconds: seldom. */
const SAMPLE_MS = 2000;
/** More errors than this is no service. */
const MOST_ERRORS = 0.5;
/** More of the machine used by others than this is told beside the figures. */
const OTHERS = 0.1;

export interface ServerMeasurerOptions {
  plan: TunePlan;
  /** For variants and, kept between them, for shards. */
  workFolder: string;
  signal?: AbortSignal;
  onRecord?: (question: Question, model: string, record: RequestRecord) => void;
}

interface Running {
  key: string;
  server: ServerUnderTest | null;
  url: string;
  grpcAddress: string | null;
  inputs: Map<string, InputDescription[] | null>;
}

interface Reading {
  cpuSeconds: number;
  atMs: number;
  metrics: Scrape | null;
}

export class ServerMeasurer {
  readonly #options: ServerMeasurerOptions;
  readonly #variants: string;
  readonly #clock = new SystemClock();
  #running: Running | null = null;

  constructor(options: ServerMeasurerOptions) {
    this.#options = options;
    mkdirSync(options.workFolder, { recursive: true });
    this.#variants = mkdtempSync(path.join(options.workFolder, 'variants-'));
  }

  async close(): Promise<void> {
    await this.#stop();
    rmSync(this.#variants, { recursive: true, force: true });
  }

  measure = async (question: Question): Promise<MeasurementBody> => {
    const startedMs = this.#clock.nowMs();
    const infeasible = (reason: string): MeasurementBody => ({
      ...{ outcome: 'infeasible', reason, models: {}, warnings: [], profile: null },
      took_ms: this.#clock.nowMs() - startedMs,
    });
    let running: Running;
    try {
      running = await this.#started(question);
    } catch (error) {
      if (this.#options.signal?.aborted) throw error;
      return infeasible(reasonOf((error as Error).message));
    }
    const died = running.server?.ended.then((how) => reasonOf(`the server ${how}`));
    let deathReason: string | null = null;
    const stop = new AbortController();
    void died?.then((reason) => {
      deathReason = reason;
      stop.abort();
    });
    const body = await this.#loaded(question, running, stop.signal);
    if (deathReason !== null) {
      this.#running = null;
      return infeasible(deathReason);
    }
    body.took_ms = this.#clock.nowMs() - startedMs;
    return body;
  };

  async #loaded(question: Question, running: Running, death: AbortSignal): Promise<MeasurementBody> {
    const { onRecord, plan, signal } = this.#options;
    const stop = signal ? AbortSignal.any([death, signal]) : death;
    const own = new OwnShareWatch(this.#clock);
    let begun: Promise<Reading> | null = null;
    const begin = (): void => {
      begun ??= this.#reading(running);
    };
    const memory = new MemoryWatch(running.server);
    const watched = running.server === null ? null : watchCpu(processTree(running.server.pid));
    const seed = plan.search.seed + 1000 * question.round;
    const loads = await Promise.all(
      plan.models.map((model) =>
        runModelLoad({
          target: running,
          model,
          load: plan.load,
          point: question.load,
          inputs: running.inputs.get(model.name) ?? null,
          seed,
          clock: this.#clock,
          signal: stop,
          onMeasuring: begin,
          ...(onRecord
            ? { onRecord: (record: RequestRecord) => onRecord(question, model.name, record) }
            : {}),
        }),
      ),
    );
    const after = await this.#reading(running);
    const before = (await begun) ?? after;
    const peak = memory.end();
    const models: Record<string, ModelFigures> = {};
    const warnings: string[] = [];
    const others = watched?.().others ?? 0;
    if (others > OTHERS) {
      warnings.push(
        `other processes used ${(100 * others).toFixed(0)} % of the machine's processor meanwhile`,
      );
    }
    plan.models.forEach((model, index) => {
      const result = loads[index]!;
      const figures = figuresOf(result.records, result.durationMs, plan.goodput);
      const share = own.end(result.latenessP99Ms, figures.latency_mean_ms);
      if (share.bottleneck !== null) warnings.push(share.bottleneck);
      figures.client_cores = cores(share.cores);
      if (running.server !== null) {
        const usedSeconds = after.cpuSeconds - before.cpuSeconds;
        // What a process has used that ended meanwhile is not known any more.
        if (usedSeconds >= 0) {
          figures.server_cores = cores((1000 * usedSeconds) / (after.atMs - before.atMs));
        }
        figures.memory_bytes = bytes(peak.pss);
        figures.gpu_memory_bytes = peak.gpu === null ? null : bytes(peak.gpu);
      }
      if (before.metrics !== null && after.metrics !== null) {
        const queue = meanMs(before.metrics, after.metrics, 'queue', model.name);
        const request = meanMs(before.metrics, after.metrics, 'request', model.name);
        if (queue !== null) figures.queue_mean_ms = milliseconds(queue);
        if (queue !== null && request !== null) {
          figures.compute_mean_ms = milliseconds(Math.max(0, request - queue));
        }
      }
      const tokens = figures.tokens_out_per_s;
      if (plan.pricePerHour !== null && tokens !== null && tokens > 0) {
        figures.cost_per_million_tokens = money((1e6 * plan.pricePerHour) / (3600 * tokens));
      }
      models[model.name] = modelFigures(result, figures);
      warnings.push(...warningsOf(result, plan.models.length > 1 ? `${model.name}: ` : ''));
    });
    const failed = plan.models.flatMap(({ name }) =>
      (models[name]!.figures.error_share ?? 1) > MOST_ERRORS
        ? [`${name}: ${errorWords(models[name]!.errors)}`]
        : [],
    );
    const profile =
      plan.profile && before.metrics !== null && after.metrics !== null
        ? rankProfiles(before.metrics, after.metrics, after.atMs - before.atMs)
        : null;
    return {
      outcome: failed.length > 0 ? 'infeasible' : 'measured',
      reason: failed.length > 0 ? `most requests failed: ${failed.join('; ')}` : null,
      models,
      warnings: [...new Set(warnings)],
      profile,
      took_ms: 0,
    };
  }

  async #reading({ server, url }: Running): Promise<Reading> {
    const { metricsUrl } = this.#options.plan.server;
    const headers = this.#options.plan.models[0]?.request.headers ?? {};
    const metrics = await scrape(metricsUrl ?? `${url}/metrics`, headers);
    return {
      cpuSeconds: server === null ? 0 : cpuSeconds(processTree(server.pid)),
      atMs: this.#clock.nowMs(),
      metrics,
    };
  }

  /** The server with these settings: the one that runs, or a new one. */
  async #started({ settings }: Question): Promise<Running> {
    const key = settingsKey(settings);
    if (this.#running?.key === key) return this.#running;
    await this.#stop();
    const { plan, workFolder } = this.#options;
    const { environment, grpcAddress, url } = plan.server;
    if (url !== null) {
      this.#running = { key, server: null, url, grpcAddress, inputs: await this.#inputs(grpcAddress) };
      return this.#running;
    }
    const models = plan.models.map(({ folder, name, properties }) => ({ name, folder: folder!, properties }));
    const loadModels = writeVariant(models, settings, path.join(this.#variants, key));
    const server = await ServerUnderTest.start(
      {
        SERVING_LOAD_MODELS: loadModels,
        SERVING_SHARD_STORE: path.join(workFolder, 'shards'),
        SERVING_GRPC_ADDRESS: 'http://127.0.0.1:0',
        SERVING_LOG_LEVEL: 'info',
        ...environment,
        ...serverEnvironment(settings),
      },
      null,
    );
    this.#running = {
      key,
      server,
      url: server.url,
      grpcAddress: server.grpcAddress,
      inputs: await this.#inputs(server.grpcAddress),
    };
    return this.#running;
  }

  async #inputs(grpcAddress: string | null): Promise<Map<string, InputDescription[] | null>> {
    const { models } = this.#options.plan;
    const told = models.map(async ({ name }) => {
      const inputs = grpcAddress === null ? null : await modelInputs(grpcAddress, name);
      return [name, inputs] as const;
    });
    return new Map(await Promise.all(told));
  }

  async #stop(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    await running?.server?.stop();
  }
}

/** The most that the processes took at one time. */
class MemoryWatch {
  readonly #server: ServerUnderTest | null;
  readonly #timer: NodeJS.Timeout;
  #pss = 0;

  constructor(server: ServerUnderTest | null) {
    this.#server = server;
    this.#look();
    this.#timer = setInterval(() => this.#look(), SAMPLE_MS);
  }

  end(): { pss: number; gpu: number | null } {
    clearInterval(this.#timer);
    this.#look();
    // Asked once, when nothing is measured any more: nvidia-smi takes its time.
    return { pss: this.#pss, gpu: this.#server === null ? null : gpuBytes(processTree(this.#server.pid)) };
  }

  #look(): void {
    if (this.#server === null) return;
    this.#pss = Math.max(this.#pss, pssBytes(processTree(this.#server.pid)));
  }
}

function modelFigures(result: LoadResult, figures: ModelFigures['figures']): ModelFigures {
  return {
    figures,
    errors: errorsByCode(result.records),
    windows: result.windows.length,
    is_stable: result.isStable,
    spread: result.spread,
    unfinished: result.unfinished,
    window_throughputs_per_s: result.counted.map(({ throughput_per_s: one }) => one),
  };
}

function warningsOf(result: LoadResult, who: string): string[] {
  if (result.isStable) return [];
  return [
    `${who}${result.windows.length} windows never agreed (the last ${result.counted.length} lie ${(100 * result.spread).toFixed(0)} % apart): the load may be more than it can serve`,
  ];
}

const errorWords = (errors: Record<string, number>): string =>
  Object.entries(errors)
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([code, count]) => `${code} × ${count}`)
    .join(', ') || 'no answer in time';

/** Finds among a server's last lines the one that says why. */
function reasonOf(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const said = lines.map(
    (line) =>
      /\[[A-Z_]{4,40}\] .*/.exec(line)?.[0] ?? /"msg":"([^"]*could not be loaded[^"]*)"/.exec(line)?.[1],
  );
  const reason = said.findLast((one) => one !== undefined) ?? lines[0] ?? output;
  return reason.slice(0, 500);
}
