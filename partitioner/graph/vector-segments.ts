/**
 * The last segments of an embedding model: hidden states of all tokens; and the vector of each text from its pooled states.
 *
 * In      SegmentBuilder (plan, norms)
 * Out     nodes in the graph that is passed
 * Limits  segments.ts
 * Source  sentence-transformers' Dense and Normalize; torch.nn.functional.normalize for the least length
 */
import { pooledColumns, type VectorStep } from '../plan/embedding-shape.js';
import { vectorRole } from '../plan/role-tensors.js';
import { activate as activateNode } from './feed-forward.js';
import type { OnnxWriter } from './onnx-writer.js';
import type { SegmentBuilder } from './segment-builder.js';
import { chain, type Step } from './steps.js';

/** A shorter vector is divided by this. */
const LEAST_LENGTH = 1e-12;

/** residual, sum → hidden [tokens, hidden] */
export function lastHidden(builder: SegmentBuilder, graph: OnnxWriter): void {
  const { names, numLayers } = builder.plan.shape;
  const last = builder.takeIn(graph, {
    residual: builder.hiddenInput(graph, 'residual'),
    sum: builder.hiddenInput(graph, 'sum'),
    postNorm: `layer-${numLayers - 1}.mlp-post-norm`,
    preNorm: names.finalNorm === null ? null : 'final-norm',
    stream: '',
  });
  graph.node('Identity', [last], ['hidden']);
  builder.hiddenOutput(graph, 'hidden');
}

/** pooled [rows, poolings · hidden] → vector [rows, dimensions]; rows are texts, or, where nothing is pooled, tokens */
export function vector(builder: SegmentBuilder, graph: OnnxWriter): void {
  const { embedding, hiddenSize } = builder.plan.shape;
  if (embedding === null) return;
  graph.input('pooled', 'float32', ['rows', pooledColumns(embedding, hiddenSize)]);
  const stepsOf = (step: VectorStep, index: number): Step[] => {
    switch (step.kind) {
      case 'normalise':
        return [normalise(graph, index)];
      case 'layer-norm':
        return [layerNorm(builder, graph, step, index)];
      case 'dense':
        return dense(builder, graph, step, index);
    }
  };
  const steps = embedding.steps.flatMap(stepsOf);
  chain([...steps, (x, output) => graph.node('Identity', [x], [output])], 'pooled', 'vector');
  graph.output('vector', 'float32', ['rows', embedding.dimensions]);
}

function normalise(graph: OnnxWriter, index: number): Step {
  const axis = graph.integers(`axis-${index}`, [-1]);
  const least = graph.floats(`least-${index}`, [LEAST_LENGTH], []);
  return (x, output) => {
    const length = graph.node('ReduceL2', [x, axis], [`length-${index}`]);
    const divisor = graph.node('Max', [length, least], [`divisor-${index}`]);
    return graph.node('Div', [x, divisor], [output]);
  };
}

function layerNorm(
  builder: SegmentBuilder,
  graph: OnnxWriter,
  { epsilon, hasBias }: Extract<VectorStep, { kind: 'layer-norm' }>,
  index: number,
): Step {
  const role = vectorRole(index);
  const weights = [builder.weight(graph, role), ...(hasBias ? [builder.weight(graph, `${role}.bias`)] : [])];
  const attributes = { epsilon: { float: epsilon }, axis: -1 };
  return (x, output) => graph.node('LayerNormalization', [x, ...weights], [output], attributes);
}

function dense(
  builder: SegmentBuilder,
  graph: OnnxWriter,
  { activation, hasBias }: Extract<VectorStep, { kind: 'dense' }>,
  index: number,
): Step[] {
  const role = vectorRole(index);
  const weights = [builder.weight(graph, role), ...(hasBias ? [builder.weight(graph, `${role}.bias`)] : [])];
  const linear: Step = (x, output) => graph.node('Gemm', [x, ...weights], [output], { transB: 1 });
  const activate = (type: string): Step[] => [linear, (x, output) => graph.node(type, [x], [output])];
  switch (activation) {
    case 'none':
      return [linear];
    case 'tanh':
      return activate('Tanh');
    case 'relu':
      return activate('Relu');
    case 'sigmoid':
      return activate('Sigmoid');
    case 'gelu':
      return activate('Gelu');
    case 'gelu-tanh':
    case 'silu':
      return [
        linear,
        (x, output) => {
          activateNode(graph, activation, x, output);
          return output;
        },
      ];
  }
}
