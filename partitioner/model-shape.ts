/**
 * The shape of a model as data: what a family file reads out of config.json, and all that plan and graph builder know of it.
 *
 * In      architectures/<family>.ts makes a ModelShape
 * Out     plan.ts and graph/ branch on its fields and never on a model's name
 * Limits  decoder blocks of the form norm → attention → add → norm → gated MLP → add, RMS norms, rotary positions.
 *         Another form (parallel residual, experts) adds fields here, a branch in graph/, and no line to another family
 * Errors  none: plain data and sums over it
 */

/** A tensor of the checkpoint: its name and what its shape must be. */
export interface ExpectedTensor {
  name: string;
  shape: readonly number[];
}

/** Rotary positions: how the table of angles is made (architectures/rope-table.ts). */
export interface RopeShape {
  /** Dimensions of a head that are rotated, from its first on; even. */
  rotaryDim: number;
  theta: number;
  scaling: RopeScaling;
}

export type RopeScaling =
  | { kind: 'none' }
  | { kind: 'linear'; factor: number }
  | {
      kind: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContextLength: number;
    };

/** Roles of one layer's tensors; `{layer}` stands for its index. Linear roles are stems: `.weight` and `.bias` follow. */
export interface LayerNames {
  attentionNorm: string;
  query: string;
  key: string;
  value: string;
  attentionOut: string;
  queryNorm: string;
  keyNorm: string;
  mlpNorm: string;
  gate: string;
  up: string;
  down: string;
}

export interface TensorNames {
  embedding: string;
  finalNorm: string;
  /** Stem, like the linear roles of a layer. */
  head: string;
  layer: LayerNames;
  /** Tensors some checkpoints carry that change nothing. */
  ignored: readonly RegExp[];
}

export interface ModelShape {
  /** As in config.json. */
  architecture: string;
  modelType: string;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  ffnSize: number;
  vocabSize: number;
  normEpsilon: number;
  contextLength: number;
  /** A layer's sliding window: tokens a query sees, itself included; null: all. One entry a layer. */
  windows: readonly (number | null)[];
  rope: RopeShape;
  activation: 'silu';
  /** The head uses the embedding's weights. */
  tiedHead: boolean;
  biases: { qkv: boolean; attentionOut: boolean; mlp: boolean };
  /** RMS norm of every head's query and key before the rotation. */
  qkNorm: boolean;
  names: TensorNames;
}

/** A layer's tensor name. */
export const layerName = (pattern: string, layer: number): string =>
  pattern.replace('{layer}', String(layer));

/** Every tensor the checkpoint must hold, in the order a forward pass meets them. */
export function expectedTensors(shape: ModelShape): ExpectedTensor[] {
  const { names, hiddenSize, headDim, ffnSize, vocabSize, biases } = shape;
  const queryRows = shape.numHeads * headDim;
  const kvRows = shape.numKvHeads * headDim;
  const tensors: ExpectedTensor[] = [{ name: names.embedding, shape: [vocabSize, hiddenSize] }];
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const add = (pattern: string, ...size: number[]): void => {
      tensors.push({ name: layerName(pattern, layer), shape: size });
    };
    const addLinear = (stem: string, rows: number, columns: number, bias: boolean): void => {
      add(`${stem}.weight`, rows, columns);
      if (bias) add(`${stem}.bias`, rows);
    };
    add(names.layer.attentionNorm, hiddenSize);
    addLinear(names.layer.query, queryRows, hiddenSize, biases.qkv);
    addLinear(names.layer.key, kvRows, hiddenSize, biases.qkv);
    addLinear(names.layer.value, kvRows, hiddenSize, biases.qkv);
    if (shape.qkNorm) {
      add(names.layer.queryNorm, headDim);
      add(names.layer.keyNorm, headDim);
    }
    addLinear(names.layer.attentionOut, hiddenSize, queryRows, biases.attentionOut);
    add(names.layer.mlpNorm, hiddenSize);
    addLinear(names.layer.gate, ffnSize, hiddenSize, biases.mlp);
    addLinear(names.layer.up, ffnSize, hiddenSize, biases.mlp);
    addLinear(names.layer.down, hiddenSize, ffnSize, biases.mlp);
  }
  tensors.push({ name: names.finalNorm, shape: [hiddenSize] });
  if (!shape.tiedHead) tensors.push({ name: `${names.head}.weight`, shape: [vocabSize, hiddenSize] });
  return tensors;
}

/** Weights of the model, a tied head counted once. */
export function countParameters(shape: ModelShape): number {
  return expectedTensors(shape).reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, 1),
    0,
  );
}
