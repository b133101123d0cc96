/** partitioner/plan/plan-table.ts and command/report.ts: what people and programs get to read. */
import { describe, expect, it } from 'vitest';
import { JsonReporter, TextReporter } from '../../../partitioner/command/report.js';
import type { PartitionResult } from '../../../partitioner/partition.js';
import { makePlan } from '../../../partitioner/plan/plan.js';
import { formatBytes, formatPlan, summarisePlan } from '../../../partitioner/plan/plan-table.js';
import { chooseWeightFormat } from '../../../partitioner/quantise/weight-format.js';
import { ServingError } from '../../../proto/errors.js';
import { toyShape } from '../../fixtures/toy-config.js';

const summary = summarisePlan(
  makePlan({
    shape: toyShape(),
    worldSize: 2,
    format: chooseWeightFormat({ dtype: 'int4', blockSize: 32 }, 0, 2),
    embeddingType: 'float16',
  }),
  { kind: 'family', summary: 'a known family', recognised: [], assumed: [], policy: null },
);

const result = {
  shardFolder: '/store/name',
  reused: true,
  manifest: {
    name: 'name',
    worldSize: 2,
    weightFormat: { dtype: 'int4', blockSize: 32 },
    shared: { bytes: 10 },
    ranks: [1, 2].map((bytes) => ({ weights: { bytes }, segments: ['a', 'b'] })),
  },
} as unknown as PartitionResult;

describe('the plan', () => {
  it('says how an unknown model was recognised, and what had to be assumed', () => {
    const policy = {
      kind: 'automatic' as const,
      summary: 'recognised by the automatic policy',
      recognised: ['layers: model.layers.{layer}, 2 of them'],
      assumed: ['positions are rotated in halves'],
      policy: null,
    };
    expect(formatPlan({ ...summary, policy }).slice(1, 4)).toEqual([
      'policy: recognised by the automatic policy',
      '  recognised layers: model.layers.{layer}, 2 of them',
      '  assumed: positions are rotated in halves',
    ]);
    expect(formatPlan(summary).join()).not.toContain('policy');
  });

  it('has one row a tensor of a layer, with the bytes of all layers', () => {
    expect(summary.tensors.find((row) => row.tensor === 'layer-*.down.piece-*.scales')).toEqual({
      tensor: 'layer-*.down.piece-*.scales',
      // Two layers of two pieces.
      layers: 4,
      split: 'row',
      axis: 1,
      type: 'float32',
      shape: [64, 1],
      file: 'rank',
      bytes: 4 * 64 * 4,
    });
    const qkv = summary.tensors.find((row) => row.tensor === 'layer-*.qkv.weight');
    expect(qkv).toMatchObject({ split: 'column', axis: 0 });
  });

  it('as text is aligned and ends with the sizes', () => {
    const lines = formatPlan(summary);
    expect(lines[0]).toBe(
      `LlamaForCausalLM, ${summary.parameters} parameters, int4, blocks of 32, tensor parallel degree 2`,
    );
    const table = lines.slice(1, -2);
    expect(new Set(table.map((line) => line.indexOf(line.trimEnd().split(/ {2,}/).at(-1)!))).size).toBe(1);
    expect(lines.at(-2)).toMatch(/^each of 2 ranks: .* of weights, 256 B of keys and values a token$/);
    expect(lines.at(-1)).toContain('all-reduces a step: 4');
  });
});

describe('bytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [12_345_678, '12.3 MB'],
    [8.05e9, '8.05 GB'],
    [2.5e16, '25000.0 TB'],
  ])('%d is %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('--json', () => {
  it('is one object a line, each with its event', () => {
    const lines: string[] = [];
    const reporter = new JsonReporter((line) => lines.push(line));
    reporter.plan(summary);
    reporter.calibration();
    reporter.progress(1, 100);
    reporter.progress(2, 100); // within a tenth of a second: dropped
    reporter.progress(100, 100);
    reporter.verified({ tensors: 3, bytes: 4 });
    reporter.done(result);
    reporter.error(new ServingError('CHECKPOINT_INVALID', 'no such file'));
    const events = lines.map((line) => JSON.parse(line));
    expect(events[0]).toMatchObject({ event: 'plan', bytesPerRank: summary.bytesPerRank });
    expect(events.slice(1, 5)).toEqual([
      { event: 'calibration' },
      { event: 'progress', doneBytes: 1, totalBytes: 100 },
      { event: 'progress', doneBytes: 100, totalBytes: 100 },
      { event: 'verified', tensors: 3, bytes: 4 },
    ]);
    expect(events[5]).toMatchObject({
      event: 'done',
      shardFolder: '/store/name',
      reused: true,
      rankBytes: [1, 2],
    });
    expect(events[6]).toEqual({ event: 'error', code: 'CHECKPOINT_INVALID', message: 'no such file' });
  });
});

describe('text', () => {
  it('in a log is a line every tenth, and the sizes at the end', () => {
    const lines: string[] = [];
    const errors: string[] = [];
    const reporter = new TextReporter(
      (line) => lines.push(line),
      (line) => errors.push(line),
      false,
    );
    for (let done = 0; done <= 1000; done++) reporter.progress(done, 1000);
    expect(lines.map((line) => line.replace(/, [^,]*$/, ''))).toEqual(
      Array.from({ length: 10 }, (_, tenth) => `writing shards: ${tenth + 1}0 % of 1.00 kB`),
    );
    lines.length = 0;
    reporter.verified({ tensors: 3, bytes: 4 });
    reporter.done(result);
    expect(lines).toEqual([
      'verified: 3 tensors, 4 B, joined again equal the checkpoint',
      'the shards are there already: nothing was written',
      'rank 0: 1 B, 2 graphs',
      'rank 1: 2 B, 2 graphs',
      'shared: 10 B',
      '/store/name',
    ]);
    reporter.error(new ServingError('TENSOR_PARALLEL_INVALID', 'degree 3'));
    expect(errors).toEqual(['TENSOR_PARALLEL_INVALID: degree 3']);
  });
});
