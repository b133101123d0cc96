/**
 * TorchServe's benchmark YAML as cases: of each model and mode, workers × batch sizes.
 *
 * In      its top file (models: files) or a model's file
 * Out     cases; notes about keys without effect
 * Errors  Error naming the key
 * Source  TorchServe 0.12: its benchmark suites; benchmark-ab.py's defaults
 */
import path from 'node:path';
import type { PlanValue } from '../plan/tune-schema.js';

export interface TorchServeCase {
  name: string;
  plan: PlanValue;
  mode: string;
  model: string;
  workers: number;
  batchSize: number;
  batchDelayMs: number;
  concurrency: number;
  requests: number;
  input: string;
  hardware: string;
}

type Fields = Record<string, unknown>;

const DEFAULTS = { requests: 100, concurrency: 10, batch_size: [1], batch_delay: 200, workers: [1] };
const KEYS = [
  ...['benchmark_engine', 'url', 'workers', 'batch_delay', 'batch_size', 'requests', 'concurrency', 'input'],
  ...[
    'backend_profiling',
    'exec_env',
    'processors',
    'content_type',
    'gpus',
    'image',
    'docker_runtime',
    'handler_profiling',
  ],
];
const NO_EFFECT: Readonly<Record<string, string>> = {
  backend_profiling: 'the server tells the time in the model in any case',
  handler_profiling: 'the server tells the time in the model in any case',
  processors: 'the server takes the devices that it finds',
  gpus: 'the server takes the devices that it finds',
  image: 'the server is started as a process, not in a container',
  docker_runtime: 'the server is started as a process, not in a container',
  ts_version: 'the server is this package',
  metrics_cmd: 'no command is run: results.csv and results.jsonl are there to be sent',
  report_cmd: 'no command is run: the report is a file',
};
const TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.png': 'image/png',
};

export function isTorchServeConfig(value: object): boolean {
  const entries = Object.entries(value);
  if (Array.isArray((value as Fields).models)) return true;
  return entries.some(([, modes]) =>
    Object.values(isFields(modes) ? modes : {}).some((one) => isFields(one) && 'benchmark_engine' in one),
  );
}

/** @param read reads a model's file beside this one */
export function torchServeCases(
  value: object,
  file: string,
  read: (file: string) => unknown,
): { cases: TorchServeCase[]; notes: string[] } {
  const notes: string[] = [];
  const top = value as Fields;
  if (!Array.isArray(top.models)) return { cases: modelCases(top, file, 'cpu', notes), notes };
  for (const key of Object.keys(top)) {
    if (Object.hasOwn(NO_EFFECT, key)) notes.push(`${key} has no effect here: ${NO_EFFECT[key]}`);
    else if (!['models', 'hardware'].includes(key))
      throw new Error(`${file}: ${key} is no key of TorchServe's benchmark`);
  }
  const hardware = String(top.hardware ?? 'cpu');
  const cases = top.models.flatMap((name: unknown) => {
    const model = read(String(name));
    if (!isFields(model)) throw new Error(`${file}: models: ${String(name)} is no map of models`);
    return modelCases(model, String(name), hardware, notes);
  });
  return { cases, notes };
}

function modelCases(models: Fields, file: string, hardware: string, notes: string[]): TorchServeCase[] {
  return Object.entries(models).flatMap(([model, modes]) => {
    if (!isFields(modes)) throw new Error(`${file}: ${model} is no map of modes`);
    return Object.entries(modes).flatMap(([mode, given]) => {
      const where = `${file}: ${model}.${mode}`;
      if (!isFields(given)) throw new Error(`${where} is no map of keys`);
      return variants(model, mode, given, where, hardware, notes);
    });
  });
}

function variants(
  model: string,
  mode: string,
  given: Fields,
  where: string,
  hardware: string,
  notes: string[],
): TorchServeCase[] {
  for (const key of Object.keys(given)) {
    if (!KEYS.includes(key)) throw new Error(`${where}.${key} is no key of TorchServe's benchmark`);
    const note = `${key} has no effect here: ${NO_EFFECT[key]}`;
    if (Object.hasOwn(NO_EFFECT, key) && !notes.includes(note)) notes.push(note);
  }
  if ((given.exec_env ?? 'local') !== 'local')
    notes.push(`${where}.exec_env: the server is started as a process, not in a container`);
  if (given.benchmark_engine !== undefined && given.benchmark_engine !== 'ab') {
    notes.push(`${where}.benchmark_engine: one load generator measures all, a closed loop as ab's`);
  }
  const url = String(given.url ?? '');
  if (/^[a-z0-9+]+:\/\//i.test(url) && !url.startsWith('file:')) {
    throw new Error(
      `${where}.url is ${url}: a benchmark takes a folder of this host, so that what is measured stays the same`,
    );
  }
  if (url === '' || given.input === undefined) throw new Error(`${where}: url and input are needed`);
  const requests = numbers(given.requests ?? DEFAULTS.requests, `${where}.requests`)[0]!;
  const concurrency = numbers(given.concurrency ?? DEFAULTS.concurrency, `${where}.concurrency`)[0]!;
  const batchDelayMs = numbers(given.batch_delay ?? DEFAULTS.batch_delay, `${where}.batch_delay`)[0]!;
  const input = String(given.input);
  const contentType =
    given.content_type === undefined
      ? (TYPES[path.extname(input).toLowerCase()] ?? 'application/octet-stream')
      : String(given.content_type);
  return numbers(given.workers ?? DEFAULTS.workers, `${where}.workers`).flatMap((workers) =>
    numbers(given.batch_size ?? DEFAULTS.batch_size, `${where}.batch_size`).map((batchSize) => ({
      ...{ mode, model, workers, batchSize, batchDelayMs, concurrency, requests, input, hardware },
      name: `${mode}_${model}_w${workers}_b${batchSize}`,
      plan: {
        models: {
          [model]: {
            path: url.replace(/^file:\/\//, ''),
            properties: {
              ...{
                minWorkers: workers,
                maxWorkers: workers,
                batch_size: batchSize,
                max_batch_delay: batchDelayMs,
              },
            },
            request: { body: input, content_type: contentType, stream: false },
          },
        },
        // A tenth before, as there.
        load: { concurrency, requests, warm_up_requests: Math.ceil(requests / 10), warm_up_seconds: 0 },
      },
    })),
  );
}

function numbers(given: unknown, where: string): number[] {
  const list = Array.isArray(given) ? given : [given];
  return list.map((one) => {
    const value = Number(one);
    if (Number.isInteger(value) && value >= 0) return value;
    throw new Error(`${where} is ${JSON.stringify(one)}; it must be a whole number`);
  });
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
