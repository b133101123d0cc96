/**
 * A plan with everything decided: what the run works with.
 *
 * In      PlanValue
 * Out     TunePlan; defaults stand here and nowhere else
 * Errors  Error naming the field
 */
import path from 'node:path';
import type { Constraint } from '../decide/constraints.js';
import type { Objective } from '../decide/score.js';
import type { RequestLimits } from '../load/figures.js';
import { type LengthDistribution, lengths } from '../load/token-lengths.js';
import type { LoadPoint } from '../run/measurement.js';
import type { SearchMode } from '../run/tune-run.js';
import type { Dimension, SettingValue } from '../space/space.js';
import type { Metric } from '../units/metrics.js';
import type { PlanValue, RequestValue, ValuesValue } from './tune-schema.js';

export type DialectName = 'djl' | 'openai' | 'openai-chat' | 'oip-grpc';

export interface RequestPlan {
  dialect: DialectName;
  stream: boolean;
  promptTokens: LengthDistribution;
  outputTokens: LengthDistribution;
  sharedPrefixTokens: number;
  prompts: string | null;
  parameters: Record<string, unknown>;
  headers: Record<string, string>;
  path: string | null;
  inputs: { name: string; datatype?: string; shape?: number[]; below?: number }[];
  body: { file: string; contentType: string } | null;
}

export interface ModelPlan {
  name: string;
  /** Absolute; null: the server has it. */
  folder: string | null;
  weight: number;
  properties: Record<string, SettingValue>;
  request: RequestPlan;
  constraints: Constraint[];
  objectives: Objective[];
}

export interface LoadPlan {
  even: boolean;
  trace: string | null;
  warmUp: { ms: number; requests: number };
  windows: { ms: number; requests: number; most: number; agree: number; within: number };
  requests: number | null;
  requestTimeoutMs: number;
  maxOutstanding: number;
}

export interface TunePlan {
  models: ModelPlan[];
  server: {
    url: string | null;
    grpcAddress: string | null;
    metricsUrl: string | null;
    environment: Record<string, string>;
  };
  dimensions: Dimension[];
  loads: LoadPoint[];
  load: LoadPlan;
  goodput: RequestLimits | null;
  search: {
    mode: SearchMode;
    maxMeasurements: number;
    maxMs: number | null;
    patience: number;
    seed: number;
    leaveEarly: boolean;
  };
  compare: { top: number; rounds: number };
  verdict: { level: number; leastGain: number };
  output: string;
  pricePerHour: number | null;
  profile: boolean;
  keepRequests: boolean;
  /** The page as PNG and PDF, where there is a browser. */
  pictures: boolean;
}

const MAX_RANGE = 256;

/** @param folder that relative paths are of */
export function planOf(value: PlanValue, folder: string): TunePlan {
  const { load = {}, search = {}, compare = {}, server = {} } = value;
  const at = (given: string): string => path.resolve(folder, given);
  const models = Object.entries(value.models).map(([name, model]): ModelPlan => {
    if (model.path === undefined && server.url === undefined) {
      throw new Error(`models.${name}.path is missing: the folder of the model, unless server.url is given`);
    }
    return {
      name,
      folder: model.path === undefined ? null : at(model.path),
      weight: model.weight ?? 1,
      properties: model.properties ?? {},
      request: requestOf({ ...value.request, ...model.request }, at),
      constraints: constraintsOf({ ...value.constraints, ...model.constraints }),
      objectives: objectivesOf(model.objectives ?? value.objectives),
    };
  });
  const dimensions: Dimension[] = [
    ...Object.entries(server.space ?? {}).map(([key, values]) => ({
      name: `server.${key}`,
      values: valuesOf(values),
    })),
    ...Object.entries(value.models).flatMap(([name, { space = {} }]) =>
      Object.entries(space).map(([key, values]) => ({ name: `${name}.${key}`, values: valuesOf(values) })),
    ),
  ];
  if (server.url !== undefined && dimensions.length > 0) {
    throw new Error(`server.url is given: ${dimensions[0]!.name} cannot be varied, only the load can`);
  }
  return {
    models,
    server: {
      url: server.url?.replace(/\/$/, '') ?? null,
      grpcAddress: server.grpc_address?.replace(/^https?:\/\//, '') ?? null,
      metricsUrl: server.metrics_url ?? null,
      environment: server.environment ?? {},
    },
    dimensions,
    loads: loadsOf(load),
    load: {
      even: load.even ?? false,
      trace: load.trace === undefined ? null : at(load.trace),
      warmUp: { ms: 1000 * (load.warm_up_seconds ?? 2), requests: load.warm_up_requests ?? 10 },
      windows: {
        ms: 1000 * (load.window_seconds ?? 3),
        requests: load.window_requests ?? 20,
        most: load.max_windows ?? 10,
        agree: load.agree ?? 3,
        within: load.within ?? 0.1,
      },
      requests: load.requests ?? null,
      requestTimeoutMs: 1000 * (load.request_timeout_seconds ?? 120),
      maxOutstanding: load.max_outstanding ?? 4096,
    },
    goodput: value.goodput === undefined ? null : (value.goodput as RequestLimits),
    search: {
      mode: (search.mode as SearchMode | undefined) ?? 'climb',
      maxMeasurements: search.max_measurements ?? 30,
      maxMs: search.max_minutes === undefined ? null : 60_000 * search.max_minutes,
      patience: search.patience ?? 0,
      seed: search.seed ?? 0,
      leaveEarly: search.leave_early ?? true,
    },
    compare: { top: compare.top ?? 3, rounds: compare.rounds ?? 5 },
    verdict: { level: compare.level ?? 0.95, leastGain: compare.least_gain ?? 0.01 },
    output: at(value.output ?? 'tune-results'),
    pricePerHour: value.price_per_hour ?? null,
    profile: value.profile ?? false,
    keepRequests: value.keep_requests ?? false,
    pictures: value.pictures ?? true,
  };
}

function requestOf(value: RequestValue, at: (file: string) => string): RequestPlan {
  const dialect = (value.dialect as DialectName | undefined) ?? 'djl';
  return {
    dialect,
    stream: value.stream ?? true,
    promptTokens: lengths((value.prompt_tokens ?? 32) as number | Partial<LengthDistribution>),
    outputTokens: lengths((value.output_tokens ?? 32) as number | Partial<LengthDistribution>),
    sharedPrefixTokens: value.shared_prefix_tokens ?? 0,
    prompts: value.prompts === undefined ? null : at(value.prompts),
    parameters: (value.parameters ?? {}) as Record<string, unknown>,
    headers: value.headers ?? {},
    path: value.path ?? null,
    inputs: (value.inputs ?? []) as RequestPlan['inputs'],
    body:
      value.body === undefined
        ? null
        : { file: at(value.body), contentType: value.content_type ?? 'application/json' },
  };
}

function loadsOf(load: NonNullable<PlanValue['load']>): LoadPoint[] {
  const given = [load.concurrency, load.rate, load.trace].filter((one) => one !== undefined);
  if (given.length > 1) throw new Error('load: concurrency, rate and trace exclude each other');
  if (load.trace !== undefined) return [{ kind: 'trace', value: 0 }];
  const kind = load.rate === undefined ? 'concurrency' : 'rate';
  const values = load.rate ?? load.concurrency ?? 16;
  const list = typeof values === 'number' ? [values] : valuesOf(values);
  return list.map((value) => {
    if (typeof value === 'number' && value > 0) return { kind, value };
    throw new Error(`load.${kind} is ${JSON.stringify(value)}; it must be a number above 0`);
  });
}

export function valuesOf(given: ValuesValue): SettingValue[] {
  if (Array.isArray(given)) return given;
  const { factor, start, step, stop } = given;
  if (factor !== undefined && start <= 0)
    throw new Error(`a range by factor starts above 0, not at ${start}`);
  const values: number[] = [];
  // Half a step more, so that a stop that is no sum of floats is still met.
  for (
    let at = start;
    at <= stop + (step ?? 1) * 1e-9;
    at = factor === undefined ? at + (step ?? 1) : at * factor
  ) {
    values.push(Number(at.toPrecision(12)));
    if (values.length > MAX_RANGE) throw new Error(`a range has more than ${MAX_RANGE} values`);
  }
  if (values.length === 0) throw new Error(`a range from ${start} to ${stop} is empty`);
  return values;
}

export function constraintsOf(
  given: Record<string, { min?: number; max?: number } | undefined>,
): Constraint[] {
  return Object.entries(given).flatMap(([metric, limits]) =>
    limits === undefined
      ? []
      : [{ metric: metric as Metric, min: limits.min ?? null, max: limits.max ?? null }],
  );
}

/** Model Analyzer's default where there is none: throughput. */
export function objectivesOf(given: Record<string, number | undefined> | undefined): Objective[] {
  const named = Object.entries(given ?? {}).flatMap(([metric, weight]) =>
    weight === undefined ? [] : [{ metric: metric as Metric, weight }],
  );
  return named.length > 0 ? named : [{ metric: 'throughput_per_s', weight: 10 }];
}
