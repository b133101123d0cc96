/** Model Analyzer's files as plans: the articles' three, every kind of key, its own traps. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { planOfAnalyzer } from '../../../../tuner/plan/model-analyzer.js';
import { readOptions } from '../../../../tuner/plan/tune-options.js';
import { planOf } from '../../../../tuner/plan/tune-plan.js';
import { checkPlan, PlanSchema } from '../../../../tuner/plan/tune-schema.js';
import { repositoryRoot } from '../../../support/repository-root.js';

const example = (name: string): string => path.join(repositoryRoot, 'tuner', 'examples', name);
const planned = (config: object, flags: Record<string, unknown> = {}) => {
  const { notes, value } = planOfAnalyzer(config, flags);
  return { notes, plan: planOf(checkPlan(value, 'test'), '/somewhere') };
};

describe("the articles' files", () => {
  it('sweep: instances, batches and loads, every one', () => {
    const { journal, plan } = readOptions(['profile', '-f', example('sweep.yaml')]);
    expect(plan.dimensions).toEqual([
      { name: 'bert-large.workers', values: [1, 2] },
      { name: 'bert-large.batch_size', values: [1, 2, 4, 8] },
    ]);
    expect(plan.loads.map(({ value }) => value)).toEqual([1, 2, 4, 8, 16]);
    expect(plan.search.mode).toBe('grid');
    expect(plan.models[0]!.request.inputs[0]).toEqual({ name: 'input_ids', shape: [1, 512] });
    expect(path.relative(process.cwd(), journal)).toBe('tune-bert/checkpoints/journal.jsonl');
  });

  it('a limit of latency, then several limits, of the same journal', () => {
    const one = readOptions(['analyze', '-f', example('latency_constraint.yaml')]);
    expect(one.plan.models[0]!.constraints).toEqual([{ metric: 'latency_p99_ms', min: null, max: 30 }]);
    const several = readOptions(['analyze', '-f', example('multiple_constraint.yaml')]);
    expect(several.plan.models[0]!.constraints).toEqual([
      { metric: 'throughput_per_s', min: 30, max: null },
      { metric: 'latency_p99_ms', min: null, max: 50 },
      { metric: 'memory_bytes', min: null, max: 5e9 },
    ]);
    expect(several.notes.join('\n')).toMatch(/gpu_used_memory: this server runs on the CPU/);
    expect(several.journal).toBe(one.journal);
  });
});

it('every example is a plan', () => {
  const folders = ['.', 'bert-cpu'];
  const files = folders.flatMap((folder) =>
    readdirSync(example(folder))
      .filter((name) => name.endsWith('.yaml') && name !== 'suite.yaml')
      .map((name) => path.join(folder, name)),
  );
  expect(files).toHaveLength(9);
  for (const file of files) {
    const command = /constraint/.test(file) ? 'analyze' : 'profile';
    expect(readOptions([command, '-f', example(file)]).plan.models).toHaveLength(1);
  }
});

describe('keys', () => {
  it('of a model: its own parameters, batches, instances and delays', () => {
    const { notes, plan } = planned({
      model_repository: 'r',
      profile_models: {
        m: {
          parameters: { concurrency: { start: 2, stop: 6, step: 2 } },
          model_config_parameters: {
            max_batch_size: [4, 8],
            dynamic_batching: { max_queue_delay_microseconds: [0, 1500, 2000] },
            instance_group: [{ kind: 'KIND_CPU', count: [1, 3] }],
          },
        },
      },
    });
    expect(plan.loads.map(({ value }) => value)).toEqual([2, 4, 6]);
    expect(plan.dimensions).toEqual([
      { name: 'm.batch_size', values: [4, 8] },
      { name: 'm.max_batch_delay', values: [0, 2] },
      { name: 'm.workers', values: [1, 3] },
    ]);
    expect(notes.join('\n')).toMatch(/whole milliseconds/);
  });

  it('have Model Analyzer’s defaults: 1…5 instances, batches of 1…128, 1…1024 clients', () => {
    const { plan } = planned({ model_repository: 'r', profile_models: 'a,b' });
    expect(plan.models.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(plan.dimensions[0]!.values).toEqual([1, 2, 3, 4, 5]);
    expect(plan.dimensions[1]!.values).toEqual([1, 2, 4, 8, 16, 32, 64, 128]);
    expect(plan.loads.at(-1)!.value).toBe(1024);
    expect(plan.loads).toHaveLength(11);
  });

  it('of perf_analyzer are those of windows, a model’s own too', () => {
    const flags = { 'measurement-interval': 1000, 'max-trials': 5, 'stability-percentage': 20 };
    const { plan } = planned({ profile_models: { m: { 'perf-analyzer-flags': flags } } });
    expect(plan.load.windows).toMatchObject({ ms: 1000, most: 5, within: 0.2 });
  });

  it('latency_budget and min_throughput are constraints', () => {
    const { plan } = planned({ profile_models: ['m'], latency_budget: 20, min_throughput: 5 });
    expect(plan.models[0]!.constraints).toEqual([
      { metric: 'latency_p99_ms', min: null, max: 20 },
      { metric: 'throughput_per_s', min: 5, max: null },
    ]);
  });

  it('without effect are said, refused ones refuse, unknown ones too', () => {
    expect(planned({ profile_models: ['m'], dcgm_disable: true }).notes.join()).toMatch(
      /dcgm_disable has no effect/,
    );
    const refuse = (config: object) => () => planned({ profile_models: ['m'], ...config });
    expect(refuse({ triton_server_flags: { x: 1 } })).toThrow(/Triton's flags mean nothing/);
    expect(refuse({ bls_composing_models: 'x' })).toThrow(/not served/);
    expect(refuse({ nonsense: 1 })).toThrow(/nonsense is no key/);
    expect(refuse({ concurrency: 1, request_rate: 2 })).toThrow(/exclude each other/);
    expect(refuse({ objectives: ['perf_throughput', 'gpu_power_usage'] })).toThrow(
      /no metric that is measured/,
    );
  });

  it('on the command line win over the file', () => {
    const options = readOptions([
      'profile',
      '-f',
      example('sweep.yaml'),
      '--run-config-search-max-concurrency',
      '4',
    ]);
    expect(options.plan.loads.map(({ value }) => value)).toEqual([1, 2, 4]);
  });
});

describe('our own form', () => {
  it('says every field that is wrong, with its path', () => {
    expect(() =>
      checkPlan({ models: { m: { path: 'x', space: { a: [] } } }, load: { concurency: 3 } }, 'f.yaml'),
    ).toThrow(/f\.yaml:\n.*\/models\/m\/space\/a[\s\S]*\/load\/concurency/);
  });

  it('has its JSON Schema as a file for editors: `shardserve tune --schema > tuner/tune.schema.json`', () => {
    const file = readFileSync(path.join(repositoryRoot, 'tuner', 'tune.schema.json'), 'utf8');
    expect(JSON.parse(file)).toEqual(JSON.parse(JSON.stringify(PlanSchema)));
  });

  it('options alone make a plan, constraints and dimensions among them', () => {
    const { plan } = readOptions([
      ...['--model', 'm=/models/m', '--set', 'm.batch_size=1,2', '--set', 'm.option.dtype=int8,fp32'],
      ...['--concurrency', '4,8', '--constraint', 'latency_p99_ms<=30', '--objective', 'tokens_out_per_s=2'],
    ]);
    expect(plan.dimensions).toEqual([
      { name: 'm.batch_size', values: [1, 2] },
      { name: 'm.option.dtype', values: ['int8', 'fp32'] },
    ]);
    expect(plan.models[0]).toMatchObject({
      folder: '/models/m',
      constraints: [{ metric: 'latency_p99_ms', min: null, max: 30 }],
      objectives: [{ metric: 'tokens_out_per_s', weight: 2 }],
    });
  });

  it('a server that runs already has no configuration to vary', () => {
    expect(() =>
      readOptions(['--model', 'm=/m', '--url', 'http://127.0.0.1:1', '--set', 'm.batch_size=1,2']),
    ).toThrow(/only the load can/);
  });
});
