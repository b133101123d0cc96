/**
 * Every key that the work load manager takes from DJLServing, given at each place where it may stand: a stronger place wins, and
 * the weaker ones count where the stronger say nothing.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import { loadConfig } from '../../../server/config/load-config.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'key-precedence-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Texts by place, the weakest first; an absent one is not given there. */
type Given = [root?: string, file?: string, environment?: string, model?: string, registration?: string];

/** The model that the lines of each file, the environment and the registration's arguments make. */
function configure(
  rootLines: string,
  fileLines: string,
  env: Record<string, string>,
  modelLines: string,
  args: Record<string, string>,
): ModelConfig {
  const folder = path.join(root, 'checkpoint');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'config.json'), '{}');
  writeFileSync(path.join(folder, 'serving.properties'), modelLines);
  writeFileSync(path.join(root, 'serving.properties'), rootLines);
  writeFileSync(path.join(root, 'more.properties'), fileLines);
  const argv = ['-m', 'NONE', '-f', path.join(root, 'more.properties')];
  const config = loadConfig({ argv, env, cwd: root, installation: root });
  const registration = {
    name: 'm',
    version: null,
    url: folder,
    where: 'registration',
    byOperator: true,
    arguments: args,
  };
  return config.configure(registration, folder).config;
}

function withKey(key: string, variable: string | null, given: Given): ModelConfig {
  const [inRoot, inFile, inEnvironment, inModel, argument] = given;
  const line = (text?: string) => (text === undefined ? '' : `${key}=${text}\n`);
  const env = variable !== null && inEnvironment !== undefined ? { [variable]: inEnvironment } : {};
  const args = argument === undefined ? {} : { [key]: argument };
  return configure(line(inRoot), line(inFile), env, line(inModel), args);
}

/** Key, variable, field, default, and text → value at root, -f, environment, model, registration. */
const NUMBERS: readonly [
  key: string,
  variable: string | null,
  field: keyof ModelConfig,
  fallback: unknown,
][] = [
  ['job_queue_size', 'SERVING_JOB_QUEUE_SIZE', 'jobQueueSize', 100],
  ['batch_size', 'SERVING_BATCH_SIZE', 'batchSize', 1],
  ['max_batch_delay', 'SERVING_MAX_BATCH_DELAY', 'maxBatchDelayMs', 100],
  ['max_idle_time', 'SERVING_MAX_IDLE_TIME', 'maxIdleSeconds', 60],
  ['minWorkers', 'SERVING_MIN_WORKERS', 'minGroups', 1],
  ['maxWorkers', 'SERVING_MAX_WORKERS', 'maxGroups', 1],
  ['cpu.minWorkers', null, 'minGroups', 1],
  ['cpu.maxWorkers', null, 'maxGroups', 1],
  ['retry_threshold', 'SERVING_RETRY_THRESHOLD', 'retryThreshold', 10],
  ['required_memory_mb', 'SERVING_REQUIRED_MEMORY_MB', 'requiredMemoryMb', 0],
  ['reserved_memory_mb', 'SERVING_RESERVED_MEMORY_MB', 'reservedMemoryMb', 500],
  ['option.tensor_parallel_degree', 'TENSOR_PARALLEL_DEGREE', 'tensorParallelDegree', 1],
  ['option.tensor_parallel_degree', 'OPTION_TENSOR_PARALLEL_DEGREE', 'tensorParallelDegree', 1],
  ['option.max_rolling_batch_size', 'OPTION_MAX_ROLLING_BATCH_SIZE', 'maxRollingBatchSize', 32],
  ['option.model_loading_timeout', 'MODEL_LOADING_TIMEOUT', 'modelLoadingTimeoutSeconds', 1800],
  ['option.predict_timeout', 'PREDICT_TIMEOUT', 'predictTimeoutSeconds', 120],
  ['option.max_model_len', 'OPTION_MAX_MODEL_LEN', 'maxModelLen', null],
];
const PLACES = ['root', '-f', 'environment', "the model's file", 'registration'];
const VALUES = [11, 12, 13, 14, 15];

describe('precedence', () => {
  it.each(NUMBERS)('%s (%s): each place wins over the weaker ones', (key, variable, field, fallback) => {
    expect(withKey(key, variable, [])[field], 'default').toBe(fallback);
    PLACES.forEach((place, strongest) => {
      if (place === 'environment' && variable === null) return;
      const given = VALUES.map((value, at) => (at <= strongest ? String(value) : undefined)) as Given;
      expect(withKey(key, variable, given)[field], place).toBe(VALUES[strongest]);
      const alone = VALUES.map((value, at) => (at === strongest ? String(value) : undefined)) as Given;
      expect(withKey(key, variable, alone)[field], `${place} alone`).toBe(VALUES[strongest]);
    });
  });

  it.each([
    ['option.rolling_batch', 'OPTION_ROLLING_BATCH', 'batching', ['auto', 'rolling'], ['disable', 'dynamic']],
    ['option.dtype', 'OPTION_DTYPE', 'dtype', ['fp32', 'fp32'], ['int8', 'int8']],
    ['option.quantize', 'OPTION_QUANTIZE', 'dtype', ['int4', 'int4'], ['int8', 'int8']],
  ] as const)('%s (%s): each place wins over the weaker ones', (key, variable, field, weak, strong) => {
    PLACES.forEach((place, strongest) => {
      const given = PLACES.map((_, at) =>
        at > strongest ? undefined : at === strongest ? strong[0] : weak[0],
      ) as Given;
      expect(withKey(key, variable, given)[field], place).toBe(strong[1]);
    });
  });

  it('load_on_devices is looked at in every place', () => {
    for (const at of PLACES.keys()) {
      const given = PLACES.map((_, place) => (place === at ? 'gpu0' : undefined)) as Given;
      expect(() => withKey('load_on_devices', 'SERVING_LOAD_ON_DEVICES', given), PLACES[at]).toThrow(
        /load_on_devices names GPU 0, but the model is computed on the CPU: set option\.device=cuda/,
      );
    }
    expect(withKey('load_on_devices', 'SERVING_LOAD_ON_DEVICES', ['*', 'cpu', '-1', '*', 'cpu']).name).toBe(
      'm',
    );
  });

  it.each([
    ['the environment', { SERVING_MIN_WORKERS: '2', SERVING_MAX_WORKERS: '4' }, '', {}],
    ["the model's file", {}, 'minWorkers=2\nmaxWorkers=4\n', {}],
    ['the registration', {}, '', { minWorkers: '2', maxWorkers: '4' }],
  ] as [string, Record<string, string>, string, Record<string, string>][])(
    'cpu.minWorkers and cpu.maxWorkers of all models do not hold against workers without a device of %s',
    (_, env, model, args) => {
      const everybody = 'cpu.minWorkers=1\ncpu.maxWorkers=1\n';
      expect(configure(everybody, '', env, model, args)).toMatchObject({ minGroups: 2, maxGroups: 4 });
    },
  );
});
