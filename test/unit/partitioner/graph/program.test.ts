/** partitioner/graph/program.ts: a step as a list, and the rules of its buffers. */
import { describe, expect, it } from 'vitest';
import { decodeOnnx, type OnnxModel } from '../../../../partitioner/graph/onnx-writer.js';
import { planProgram } from '../../../../partitioner/graph/program.js';
import { buildSegments } from '../../../../partitioner/graph/segments.js';
import { makePlan, type Plan } from '../../../../partitioner/plan/plan.js';
import { FP32_FORMAT } from '../../../../partitioner/quantise/weight-format.js';
import { allReducesPerStep, type RunOp } from '../../../../proto/manifest.js';
import { toyShape } from '../../../fixtures/toy-config.js';

const planOf = (worldSize: number, changes: Record<string, unknown> = {}): Plan =>
  makePlan({
    shape: toyShape(changes),
    worldSize,
    format: FP32_FORMAT,
    embeddingType: 'float16',
  });

const words = (plan: Plan): string[] =>
  plan.program.map((op) =>
    op.op === 'run' ? op.segment : op.op === 'attend' ? `attend ${op.layer}` : op.op,
  );

describe('the program', () => {
  it('of one rank has no collectives', () => {
    expect(words(planOf(1, { num_hidden_layers: 1 }))).toEqual([
      'embed',
      'layer-0-qkv',
      'attend 0',
      'layer-0-out',
      'layer-0-mlp',
      'head',
    ]);
  });

  it('of several ranks sums after attention and after the MLP', () => {
    expect(words(planOf(2)).slice(0, 8)).toEqual([
      'embed',
      'layer-0-qkv',
      'attend 0',
      'layer-0-out',
      'all-reduce',
      'layer-0-mlp',
      'all-reduce',
      'layer-1-qkv',
    ]);
    expect(allReducesPerStep(planOf(4).program)).toBe(4);
  });

  it('hands a layer its window', () => {
    const { program } = planProgram({ ...toyShape(), windows: [null, 16] }, 2);
    expect(program.flatMap((op) => (op.op === 'attend' ? [op.window] : []))).toEqual([null, 16]);
  });
});

/** A toy whose attention and MLP stand side by side. */
const parallelPlan = (worldSize: number, numLayers: number): Plan =>
  makePlan({
    shape: { ...toyShape({ num_hidden_layers: numLayers }), residual: 'parallel' },
    worldSize,
    format: FP32_FORMAT,
    embeddingType: 'float32',
  });

describe('side by side', () => {
  it('a layer has one sum, of both branches', () => {
    expect(words(parallelPlan(2, 2))).toEqual([
      'embed',
      'layer-0-qkv',
      'attend 0',
      'layer-0-out-mlp',
      'all-reduce',
      'layer-1-qkv',
      'attend 1',
      'layer-1-out-mlp',
      'all-reduce',
      'head',
    ]);
    expect(allReducesPerStep(parallelPlan(1, 3).program)).toBe(0);
  });

  // A transport may still be sending the last partial of a step when the next step begins: zeromq.ts refuses it then.
  it.each([1, 2, 3, 4, 5, 28, 33])(
    'of %i layers, no partial follows itself, not into the next step either',
    (layers) => {
      const { program, buffers } = parallelPlan(2, layers);
      const partials = [...program, ...program].flatMap((op) => (op.op === 'all-reduce' ? [op.partial] : []));
      expect(partials.filter((name, index) => name === partials[index - 1])).toEqual([]);
      const declared = buffers.filter(({ place }) => place === 'partial').map(({ name }) => name);
      expect(new Set(partials)).toEqual(new Set(declared));
    },
  );
});

describe.each([1, 2])('buffers at %i ranks', (worldSize) => {
  const plan = planOf(worldSize, { num_hidden_layers: 3 });

  it('nothing is read before it is written, and no op writes what it reads', () => {
    const written = new Set<string>([plan.io.ids, plan.io.positions, plan.io.rows]);
    for (const op of plan.program) {
      const [reads, writes] =
        op.op === 'run'
          ? [Object.values(op.inputs), Object.values(op.outputs)]
          : op.op === 'attend'
            ? [[op.query, op.key, op.value], [op.output]]
            : op.op === 'pool'
              ? [[op.hidden], [op.pooled]]
              : [[op.partial], [op.sum]];
      expect(reads.filter((name) => !written.has(name))).toEqual([]);
      expect(writes.filter((name) => reads.includes(name))).toEqual([]);
      for (const name of writes) written.add(name);
    }
    expect(written).toEqual(new Set(plan.buffers.map(({ name }) => name)));
  });

  it('a segment after a sum reads the last residual and the last sum', () => {
    let residual = '';
    let sum = '';
    for (const op of plan.program) {
      if (op.op === 'all-reduce') sum = op.sum;
      if (op.op !== 'run') continue;
      if (op.inputs.residual !== undefined) expect(op.inputs.residual).toBe(residual);
      if (op.inputs.sum !== undefined) expect(op.inputs.sum).toBe(sum);
      residual = op.outputs['next-residual'] ?? op.outputs.residual ?? residual;
      if (worldSize === 1) sum = op.outputs.partial ?? sum;
    }
  });

  it('two partial sums never share a buffer with the one before', () => {
    const partials = plan.program.flatMap((op) => (op.op === 'run' ? (op.outputs.partial ?? []) : []));
    expect(partials).toHaveLength(6);
    expect(partials.filter((name, index) => name === partials[index - 1])).toEqual([]);
  });

  it('every segment takes and gives what the program binds, in its order, with the sizes of the buffers', () => {
    const segments = buildSegments(plan, worldSize - 1, 'test');
    const graphs = new Map([...segments].map(([name, bytes]) => [name, decodeOnnx(bytes).graph]));
    const runs = plan.program.filter((op): op is RunOp => op.op === 'run');
    for (const { segment, inputs, outputs } of runs) {
      const graph = graphs.get(segment);
      expect(graph?.input.map(({ name }) => name).sort()).toEqual(Object.keys(inputs).sort());
      expect(graph?.output.map(({ name }) => name).sort()).toEqual(Object.keys(outputs).sort());
      for (const info of [...(graph?.input ?? []), ...(graph?.output ?? [])]) {
        expect([segment, info.name, dimensions(info)]).toEqual([
          segment,
          info.name,
          bufferDimensions(plan, { ...inputs, ...outputs }[info.name] ?? ''),
        ]);
      }
    }
    expect([...graphs.keys()].sort()).toEqual(
      [
        ...runs.map(({ segment }) => segment),
        'attend',
        'attend-masked',
        'attend-token',
        ...(worldSize > 1 ? ['sum'] : []),
      ].sort(),
    );
  });
});

function dimensions(info: OnnxModel['graph']['input'][number]): (number | string)[] {
  return info.type.tensor_type.shape.dim.map((dim) => dim.dim_param ?? dim.dim_value ?? -1);
}

/** As proto/manifest.ts says a graph sees a buffer. */
function bufferDimensions(plan: Plan, name: string): (number | string)[] {
  const buffer = plan.buffers.find((candidate) => candidate.name === name);
  if (!buffer) throw new Error(`no buffer ${name}`);
  const { first, columns } = buffer;
  return { rank1: [first], rank2: [first, columns], rank3: [1, first, columns], row: [1, first] }[
    buffer.shape
  ];
}
