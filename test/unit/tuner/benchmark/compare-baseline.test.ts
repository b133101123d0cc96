/** What counts as a regression: noise, least effect, direction, too few repeats; TorchServe's suites as cases. */
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { AB_COLUMNS } from '../../../../tuner/benchmark/benchmark-tables.js';
import { compareBaseline } from '../../../../tuner/benchmark/compare-baseline.js';
import { readSuite } from '../../../../tuner/benchmark/suite.js';
import { isTorchServeConfig, torchServeCases } from '../../../../tuner/benchmark/torchserve-suite.js';
import { Random } from '../../../../tuner/load/random.js';
import { repositoryRoot } from '../../../support/repository-root.js';

const OPTIONS = {
  metrics: ['throughput_per_s', 'latency_p99_ms', 'error_share'] as const,
  alpha: 0.02,
  leastEffect: 0.05,
};
const verdicts = (before: object, after: object) =>
  compareBaseline({ a: before }, { a: after }, OPTIONS).map(({ metric, verdict }) => `${metric} ${verdict}`);

describe('a comparison with a baseline', () => {
  it('knows which way is worse', () => {
    const before = {
      throughput_per_s: [100, 101, 99, 100.5, 99.5],
      latency_p99_ms: [20, 21, 19, 20.5, 19.5],
    };
    const after = { throughput_per_s: [80, 81, 79, 80.5, 79.5], latency_p99_ms: [10, 11, 9, 10.5, 9.5] };
    expect(verdicts(before, after)).toEqual(['throughput_per_s worse', 'latency_p99_ms better']);
  });

  it('lets a change pass that is certain but small, and one that is large but noise', () => {
    const small = { throughput_per_s: [98, 98.1, 98.2, 98.3, 98.4] };
    expect(verdicts({ throughput_per_s: [100, 100.1, 100.2, 100.3, 100.4] }, small)).toEqual([
      'throughput_per_s same',
    ]);
    const noisy = { throughput_per_s: [60, 130, 70, 90, 110] };
    expect(verdicts({ throughput_per_s: [100, 120, 80, 140, 95] }, noisy)).toEqual(['throughput_per_s same']);
  });

  it('sees errors where there were none', () => {
    expect(verdicts({ error_share: [0, 0, 0, 0, 0] }, { error_share: [0.1, 0.2, 0.1, 0.3, 0.2] })).toEqual([
      'error_share worse',
    ]);
  });

  it('says nothing from two repeats', () => {
    expect(verdicts({ throughput_per_s: [100, 101] }, { throughput_per_s: [10, 11] })).toEqual([
      'throughput_per_s too few repeats',
    ]);
  });

  it('calls two runs of the same a regression in at most three of a hundred', () => {
    let wrong = 0;
    for (let seed = 0; seed < 1000; seed++) {
      const random = new Random(seed, 'runs');
      const run = () => ({
        throughput_per_s: Array.from({ length: 5 }, () => 100 * Math.exp(0.1 * random.normal())),
      });
      if (verdicts(run(), run())[0] !== 'throughput_per_s same') wrong++;
    }
    expect(wrong).toBeLessThanOrEqual(30);
  });
});

it('a suite: cases over defaults, null takes a default away', () => {
  const suite = readSuite(path.join(repositoryRoot, 'tuner', 'examples', 'suite.yaml'));
  expect(suite.cases.map(({ name }) => name)).toEqual([
    ...['streamed', 'whole', 'one client', 'four requests a second'],
  ]);
  expect(suite.cases.map(({ plan }) => plan.loads[0])).toEqual([
    ...[8, 8, 1].map((value) => ({ kind: 'concurrency', value })),
    { kind: 'rate', value: 4 },
  ]);
  expect(suite.cases.map(({ plan }) => plan.models[0]!.request.stream)).toEqual([true, false, true, true]);
});

describe("TorchServe's YAML", () => {
  const model = {
    vgg11: {
      scripted_mode: {
        ...{
          benchmark_engine: 'ab',
          url: 'models/vgg11',
          workers: [1, 2],
          batch_delay: 100,
          batch_size: [1, 4],
        },
        ...{ input: 'cat.jpg', requests: 1000, concurrency: 10, backend_profiling: false, exec_env: 'local' },
        processors: ['cpu', { gpus: 'all' }],
      },
    },
  };

  it('is workers × batch sizes, named as there', () => {
    expect(isTorchServeConfig(model)).toBe(true);
    const { cases, notes } = torchServeCases(model, 'vgg11.yaml', () => null);
    expect(cases.map(({ name }) => name)).toEqual([
      ...['scripted_mode_vgg11_w1_b1', 'scripted_mode_vgg11_w1_b4'],
      ...['scripted_mode_vgg11_w2_b1', 'scripted_mode_vgg11_w2_b4'],
    ]);
    expect(cases[3]!.plan).toEqual({
      models: {
        vgg11: {
          path: 'models/vgg11',
          properties: { minWorkers: 2, maxWorkers: 2, batch_size: 4, max_batch_delay: 100 },
          request: { body: 'cat.jpg', content_type: 'image/jpeg', stream: false },
        },
      },
      load: { concurrency: 10, requests: 1000, warm_up_requests: 100, warm_up_seconds: 0 },
    });
    expect(notes.join('\n')).toMatch(/backend_profiling has no effect[\s\S]*processors has no effect/);
  });

  it('has a top file that names files of models', () => {
    const top = { ts_version: { branch: 'master' }, models: ['vgg11.yaml'], hardware: 'gpu' };
    const { cases } = torchServeCases(top, 'top.yaml', (name) => (name === 'vgg11.yaml' ? model : null));
    expect(cases).toHaveLength(4);
    expect(cases[0]!.hardware).toBe('gpu');
  });

  it('fetches nothing, and knows its keys', () => {
    const other = (key: string, value: unknown) => ({
      m: { eager_mode: { benchmark_engine: 'ab', url: 'x', input: 'y', [key]: value } },
    });
    const read = (config: object) => () => torchServeCases(config, 'f.yaml', () => null);
    expect(read(other('url', 'https://host/x.mar'))).toThrow(/takes a folder of this host/);
    expect(read(other('batchsize', 1))).toThrow(/m\.eager_mode\.batchsize is no key/);
  });

  it('ends in its columns and their order', () => {
    expect(AB_COLUMNS.slice(0, 15)).toEqual([
      ...[
        'Benchmark',
        'TS failed requests',
        'TS throughput',
        'TS latency P50',
        'TS latency P90',
        'TS latency P99',
      ],
      ...['TS latency mean', 'TS error rate', 'Batch size', 'Batch delay', 'Workers', 'Model', 'Concurrency'],
      ...['Input', 'Requests'],
    ]);
    expect(AB_COLUMNS).toHaveLength(30);
  });
});
