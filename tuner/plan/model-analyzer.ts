/**
 * Model Analyzer's configuration as a plan of ours.
 *
 * In      its YAML's value (keys with _ or -), its command-line flags over it
 * Out     PlanValue; notes: what is mapped, what has no effect here and why
 * Errors  Error naming a key that is refused or not known
 * Source  Model Analyzer's config.md; its config_defaults for the values that are not given
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ANALYZER_KEYS, METRIC_TAGS } from './model-analyzer-keys.js';
import type { PlanValue, ValuesValue } from './tune-schema.js';

type Value = unknown;
type Fields = Record<string, Value>;

export interface AnalyzerPlan {
  value: PlanValue;
  notes: string[];
  /** Where its checkpoints are kept. */
  checkpoints: string;
}

export const isAnalyzerConfig = (value: unknown): boolean =>
  isFields(value) &&
  Object.keys(value).some((key) =>
    ['profile_models', 'model_repository', 'analysis_models', 'report_model_configs'].includes(snake(key)),
  );

export function planOfAnalyzer(given: unknown, flags: Fields): AnalyzerPlan {
  if (!isFields(given)) throw new Error('a configuration of Model Analyzer is a map of keys');
  const notes: string[] = [];
  const config = { ...snakeKeys(given), ...snakeKeys(flags) };
  for (const key of Object.keys(config)) {
    const row = ANALYZER_KEYS[key];
    if (row === undefined) throw new Error(`${key} is no key of Model Analyzer that is known here`);
    if (row.kind === 'refused') throw new Error(`${key}: ${row.why}`);
    if (row.kind === 'none') notes.push(`${key} has no effect here: ${row.why}`);
    if (row.kind === 'mapped') notes.push(`${key}: ${row.why}`);
  }
  const launch = text(config.triton_launch_mode) ?? 'local';
  const isRemote = launch === 'remote';
  const repository = text(config.model_repository) ?? '.';
  const models = modelsOf(config.profile_models ?? config.analysis_models ?? config.report_model_configs);
  if (config.concurrency !== undefined && config.request_rate !== undefined) {
    throw new Error('concurrency and request_rate exclude each other');
  }
  if (models.size > 1 && config.run_config_profile_models_concurrently_enable !== true) {
    notes.push(
      'profile_models: several models are loaded and measured together here (run_config_profile_models_concurrently_enable); one run a model measures them apart',
    );
  }
  const search = searchOf(config, notes);
  const value: PlanValue = {
    models: Object.fromEntries(
      [...models].map(([name, model]) => [name, modelOf(name, model, config, repository, isRemote, notes)]),
    ),
    request: {},
    load: loadOf(config, models),
    search,
    compare: { top: number(config.num_configs_per_model) ?? 3, rounds: 5 },
    objectives: objectivesOf(config.objectives, notes),
    constraints: constraintsOf(config.constraints, config, notes),
    output: text(config.export_path) ?? '.',
    ...(isRemote
      ? {
          server: {
            url: `http://${(text(config.triton_http_endpoint) ?? 'localhost:8000').replace(/^http:\/\//, '')}`,
            grpc_address: text(config.triton_grpc_endpoint) ?? 'localhost:8001',
            ...(config.triton_metrics_url === undefined
              ? {}
              : { metrics_url: String(config.triton_metrics_url) }),
          },
        }
      : {}),
  };
  return { value, notes, checkpoints: text(config.checkpoint_directory) ?? './checkpoints' };
}

function modelsOf(given: Value): Map<string, Fields> {
  if (given === undefined) throw new Error('profile_models is missing');
  const names = (list: readonly string[]) => new Map(list.map((name) => [name.trim(), {}] as const));
  if (typeof given === 'string') return names(given.split(',').filter(Boolean));
  if (Array.isArray(given)) {
    return new Map(
      given.flatMap((one): [string, Fields][] =>
        isFields(one)
          ? Object.entries(one).map(([name, fields]) => [name, fieldsOf(fields)])
          : [[String(one), {}]],
      ),
    );
  }
  if (!isFields(given)) throw new Error('profile_models is a list or a map of models');
  return new Map(Object.entries(given).map(([name, fields]) => [name, fieldsOf(fields)]));
}

function modelOf(
  name: string,
  model: Fields,
  config: Fields,
  repository: string,
  isRemote: boolean,
  notes: string[],
): PlanValue['models'][string] {
  for (const key of Object.keys(model)) {
    const known = [
      'objectives',
      'constraints',
      'parameters',
      'model_config_parameters',
      'weighting',
      'cpu_only',
    ];
    const flags = [
      'perf_analyzer_flags',
      'genai_perf_flags',
      'triton_server_flags',
      'triton_server_environment',
    ];
    if (![...known, ...flags].includes(key))
      throw new Error(`profile_models.${name}.${key} is not known here`);
    if (key === 'cpu_only')
      notes.push(`profile_models.${name}.cpu_only has no effect here: models run where the server says`);
  }
  const folder = modelFolder(repository, name);
  const isText = existsSync(path.join(folder, 'config.json'));
  const flags = {
    ...fieldsOf(config.perf_analyzer_flags),
    ...fieldsOf(model.perf_analyzer_flags),
  };
  return {
    ...(isRemote ? {} : { path: folder }),
    ...(model.weighting === undefined ? {} : { weight: number(model.weighting) ?? 1 }),
    ...(isRemote ? {} : { space: spaceOf(name, model, config, isText, notes) }),
    request: requestOf(
      name,
      flags,
      { ...fieldsOf(config.genai_perf_flags), ...fieldsOf(model.genai_perf_flags) },
      config,
      notes,
    ),
    ...(model.objectives === undefined ? {} : { objectives: objectivesOf(model.objectives, notes) }),
    ...(model.constraints === undefined
      ? {}
      : { constraints: constraintsOf(model.constraints, config, notes) }),
  };
}

/** Triton's repository holds NAME/1/model.onnx, ours NAME/. */
function modelFolder(repository: string, name: string): string {
  const own = path.join(repository, name);
  return existsSync(path.join(own, '1')) ? path.join(own, '1') : own;
}

function spaceOf(
  name: string,
  model: Fields,
  config: Fields,
  isText: boolean,
  notes: string[],
): Record<string, ValuesValue> {
  const batchKey = isText ? 'option.max_rolling_batch_size' : 'batch_size';
  const given = fieldsOf(model.model_config_parameters);
  const space: Record<string, ValuesValue> = {};
  if (Object.keys(given).length === 0) {
    if (config.run_config_search_disable === true) return space;
    space.workers = range(config, 'instance_count', 1, 5, 1);
    space[batchKey] = range(config, 'model_batch_size', 1, 128, null);
    return space;
  }
  for (const [key, value] of Object.entries(given)) {
    if (key === 'max_batch_size') space[batchKey] = numbers(value);
    else if (key === 'instance_group') space.workers = instanceCounts(value);
    else if (key === 'dynamic_batching') {
      const delays = delaysOf(value);
      if (delays !== null) {
        space.max_batch_delay = [...new Set(delays.map((us) => Math.ceil(us / 1000)))];
        if (delays.some((us) => us % 1000 !== 0)) {
          notes.push(
            `profile_models.${name}.dynamic_batching: delays are whole milliseconds here, rounded up`,
          );
        }
      }
    } else {
      throw new Error(
        `profile_models.${name}.model_config_parameters.${key} has no like here: max_batch_size, instance_group and dynamic_batching.max_queue_delay_microseconds have; other keys of serving.properties are varied in a plan of our own form`,
      );
    }
  }
  return space;
}

function instanceCounts(value: Value): number[] {
  const groups = Array.isArray(value) ? value.flat(2) : [value];
  const counts = groups.flatMap((group) => (isFields(group) ? numbers(group.count ?? 1) : numbers(group)));
  return [...new Set(counts)];
}

/** Microseconds; null: batches are formed as the server does by itself. */
function delaysOf(value: Value): number[] | null {
  const list = Array.isArray(value) ? value : [value];
  const delays = list.flatMap((one) =>
    isFields(one) ? numbers(one.max_queue_delay_microseconds ?? []) : [],
  );
  return delays.length > 0 ? delays : null;
}

function range(config: Fields, what: string, min: number, max: number, step: number | null): ValuesValue {
  const start = number(config[`run_config_search_min_${what}`]) ?? min;
  const stop = number(config[`run_config_search_max_${what}`]) ?? max;
  return step === null ? { start, stop, factor: 2 } : { start, stop, step };
}

function loadOf(config: Fields, models: Map<string, Fields>): NonNullable<PlanValue['load']> {
  const own = [...models.values()].map((model) => fieldsOf(model.parameters));
  const of = (key: string): Value => own.find((one) => one[key] !== undefined)?.[key] ?? config[key];
  // Windows are of the load, which is one: a model's own flags are meant for it too.
  const flags: Fields = Object.assign(
    {},
    fieldsOf(config.perf_analyzer_flags),
    ...[...models.values()].map((model) => fieldsOf(model.perf_analyzer_flags)),
  );
  const interval = number(flags.measurement_interval);
  const stability = number(flags.stability_percentage);
  const windows = {
    ...(interval === null ? {} : { window_seconds: interval / 1000 }),
    ...(stability === null ? {} : { within: stability / 100 }),
    ...(number(flags.max_trials) === null ? {} : { max_windows: number(flags.max_trials)! }),
    ...(number(flags.measurement_request_count) === null
      ? {}
      : { window_requests: number(flags.measurement_request_count)! }),
    ...(number(flags.warmup_request_count) === null
      ? {}
      : { warm_up_requests: number(flags.warmup_request_count)! }),
  };
  const rate = of('request_rate');
  const concurrency = of('concurrency');
  const isRate = rate !== undefined || config.request_rate_search_enable === true;
  if (isRate) {
    return {
      ...windows,
      rate: rate === undefined ? range(config, 'request_rate', 16, 8192, null) : numbers(rate),
    };
  }
  const isSwept = concurrency === undefined && config.concurrency_sweep_disable !== true;
  return {
    ...windows,
    concurrency: isSwept ? range(config, 'concurrency', 1, 1024, null) : numbers(concurrency ?? 1),
  };
}

function requestOf(name: string, flags: Fields, genai: Fields, config: Fields, notes: string[]) {
  const protocol = text(config.client_protocol) ?? 'grpc';
  const isStream = flags.streaming === true || genai.streaming === true;
  const inputs = shapesOf(flags.shape, number(fieldsOf(config).batch_sizes), name);
  for (const key of Object.keys(flags)) {
    const works = [
      'shape',
      'streaming',
      'measurement_interval',
      'stability_percentage',
      'max_trials',
      'measurement_request_count',
      'warmup_request_count',
    ];
    if (!works.includes(key)) notes.push(`perf_analyzer_flags.${key} has no effect here`);
  }
  const prompt = number(genai.input_tokens_mean);
  const output = number(genai.expected_output_tokens ?? genai.output_tokens_mean);
  return {
    dialect: protocol === 'http' ? ('djl' as const) : ('oip-grpc' as const),
    stream: isStream,
    ...(inputs.length > 0 ? { inputs } : {}),
    ...(prompt === null
      ? {}
      : { prompt_tokens: { mean: prompt, deviation: number(genai.input_tokens_stddev) ?? 0 } }),
    ...(output === null ? {} : { output_tokens: output }),
  };
}

/** "input_ids:512" or a list of these; a client batch is the first axis. */
function shapesOf(given: Value, batch: number | null, name: string): { name: string; shape: number[] }[] {
  const list = given === undefined ? [] : Array.isArray(given) ? given : [given];
  return list.map((one) => {
    const [input, sizes = ''] = String(one).split(':');
    const shape = sizes.split(/[,x]/).map(Number);
    if (!input || shape.some((size) => !Number.isInteger(size) || size < 1)) {
      throw new Error(`profile_models.${name}: shape is ${String(one)}; it must be NAME:N,N`);
    }
    return { name: input, shape: [batch ?? 1, ...shape] };
  });
}

function searchOf(config: Fields, notes: string[]): NonNullable<PlanValue['search']> {
  const mode = text(config.run_config_search_mode) ?? 'brute';
  const modes: Record<string, 'grid' | 'climb' | 'tpe'> = { brute: 'grid', quick: 'climb', optuna: 'tpe' };
  if (!modes[mode]) throw new Error(`run_config_search_mode is ${mode}; it must be brute, quick or optuna`);
  if (mode === 'quick') {
    notes.push(
      'run_config_search_mode: quick climbs over the client load too, within its budget (search.max_measurements)',
    );
  }
  return {
    mode: modes[mode],
    max_measurements: mode === 'brute' ? 1_000_000 : (number(config.optuna_max_trials) ?? 200),
    ...(mode === 'optuna' ? { patience: number(config.optuna_early_exit_threshold) ?? 10 } : {}),
    ...(mode === 'quick' ? { patience: 30 } : {}),
  };
}

/** Throughput in both modes, as there. */
function objectivesOf(given: Value, notes: string[]): Record<string, number> {
  if (given === undefined) return { throughput_per_s: 10 };
  const pairs: [string, number][] = Array.isArray(given)
    ? given.map((tag) => [String(tag), 1])
    : Object.entries(fieldsOf(given)).map(([tag, weight]) => [tag, number(weight) ?? 1]);
  return Object.fromEntries(pairs.map(([tag, weight]) => [metricOf(tag, notes).metric, weight]));
}

function constraintsOf(given: Value, config: Fields, notes: string[]): NonNullable<PlanValue['constraints']> {
  const found: Record<string, { min?: number; max?: number }> = {};
  for (const [tag, limits] of Object.entries(fieldsOf(given))) {
    const { factor, metric } = metricOf(tag, notes);
    const { max, min } = fieldsOf(limits);
    found[metric] = {
      ...(number(min) === null ? {} : { min: number(min)! * factor }),
      ...(number(max) === null ? {} : { max: number(max)! * factor }),
    };
  }
  const budget = number(config.latency_budget);
  if (budget !== null) found.latency_p99_ms = { ...found.latency_p99_ms, max: budget };
  const least = number(config.min_throughput);
  if (least !== null) found.throughput_per_s = { ...found.throughput_per_s, min: least };
  return found;
}

function metricOf(tag: string, notes: string[]) {
  const row = METRIC_TAGS[snake(tag)];
  if (row === undefined)
    throw new Error(
      `${tag} is no metric that is measured here; there are ${Object.keys(METRIC_TAGS).join(', ')}`,
    );
  if (row.note !== undefined && !notes.includes(row.note)) notes.push(row.note);
  return row;
}

/** A number, a list, a comma-separated list, or {start, stop, step}. */
function numbers(given: Value): number[] {
  if (isFields(given)) {
    const { start, step, stop } = given;
    const [from, to, by] = [number(start) ?? 1, number(stop) ?? 1, number(step) ?? 1];
    return Array.from({ length: Math.floor((to - from) / by) + 1 }, (_, index) => from + by * index);
  }
  const list = Array.isArray(given) ? given : String(given).split(',');
  return list.map((one) => {
    const value = number(one);
    if (value === null) throw new Error(`${JSON.stringify(one)} is no number`);
    return value;
  });
}

const snake = (key: string): string => key.replaceAll('-', '_');
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const fieldsOf = (value: unknown): Fields => (isFields(value) ? snakeKeys(value) : {});
const text = (value: unknown): string | null =>
  value === undefined || value === null ? null : String(value);
const snakeKeys = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).map(([key, value]) => [snake(key), value]));

function number(value: unknown): number | null {
  if (typeof value === 'number') return value;
  if (typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)))
    return Number(value);
  return null;
}
