/**
 * An ONNX model of BERT's shape with random weights, to measure servers with: nobody's weights, everybody's shape.
 *
 * Run     node dist/bench/onnx/make-bert.js FOLDER [--layers N] [--hidden N] [--heads N] [--vocabulary N] [--positions N]
 * In      sizes; the defaults are BERT-large's (24 layers of 1,024)
 * Out     FOLDER/model.onnx and weights.bin beside it: input_ids, attention_mask, token_type_ids → last_hidden_state
 * Limits  the same bytes for the same sizes; a matrix in memory at a time
 * Source  the BERT paper's encoder: post-norm, GELU, learnt positions
 */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { OnnxWriter } from '../../partitioner/graph/onnx-writer.js';
import { Random } from '../../tuner/load/random.js';
import { wholeNumber } from '../whole-number.js';

const WEIGHTS = 'weights.bin';
const EPSILON = 1e-12;
const DEVIATION = 0.02;
/**
 * Values repeat after so many: drawing each would take minutes. A prime, and one matrix goes on where the last one ended: ONNX
 * Runtime keeps one copy of packed weights that are equal, and 24 equal layers took 110 MB of memory instead of 1.3 GB.
 */
const POOL = 65_537;

export interface BertSizes {
  layers: number;
  hidden: number;
  heads: number;
  vocabulary: number;
  positions: number;
}

export function makeBert(folder: string, sizes: BertSizes): void {
  mkdirSync(folder, { recursive: true });
  const fd = openSync(path.join(folder, WEIGHTS), 'w');
  try {
    const graph = bertGraph(sizes, new WeightFile(fd));
    writeFileSync(path.join(folder, 'model.onnx'), graph.encode('0'));
  } finally {
    closeSync(fd);
  }
}

class WeightFile {
  readonly #fd: number;
  readonly #pool: Float32Array;
  #offset = 0;
  #drawn = 0;

  constructor(fd: number) {
    this.#fd = fd;
    const random = new Random(0, 'bert');
    this.#pool = Float32Array.from({ length: POOL }, () => DEVIATION * random.normal());
  }

  /** @param constant the value of all of them; null: random ones */
  add(graph: OnnxWriter, name: string, shape: readonly number[], constant: number | null = null): string {
    const elements = shape.reduce((product, size) => product * size, 1);
    const values = new Float32Array(elements);
    if (constant !== null) values.fill(constant);
    else this.#draw(values);
    const bytes = new Uint8Array(values.buffer);
    const offset = this.#offset;
    for (let at = 0; at < bytes.length; )
      at += writeSync(this.#fd, bytes, at, bytes.length - at, offset + at);
    this.#offset += bytes.length;
    return graph.weight(name, { type: 'float32', shape, location: WEIGHTS, offset, bytes: bytes.length });
  }

  #draw(values: Float32Array): void {
    for (let at = 0; at < values.length; ) {
      const some = this.#pool.subarray(this.#drawn, this.#drawn + values.length - at);
      values.set(some, at);
      at += some.length;
      this.#drawn = (this.#drawn + some.length) % POOL;
    }
  }
}

function bertGraph(
  { heads, hidden, layers, positions, vocabulary }: BertSizes,
  weights: WeightFile,
): OnnxWriter {
  const graph = new OnnxWriter('bert');
  const axes = ['batch', 'tokens'] as const;
  const ids = graph.input('input_ids', 'int64', axes);
  const mask = graph.input('attention_mask', 'int64', axes);
  const types = graph.input('token_type_ids', 'int64', axes);
  const headSize = hidden / heads;
  const norm = (x: string, name: string): string =>
    graph.node(
      'LayerNormalization',
      [x, weights.add(graph, `${name}.scale`, [hidden], 1), weights.add(graph, `${name}.bias`, [hidden], 0)],
      [`${name}.out`],
      { axis: -1, epsilon: { float: EPSILON } },
    );
  const linear = (x: string, name: string, from: number, to: number): string => {
    const product = graph.node(
      'MatMul',
      [x, weights.add(graph, `${name}.weight`, [from, to])],
      [`${name}.product`],
    );
    return graph.node('Add', [product, weights.add(graph, `${name}.bias`, [to], 0)], [`${name}.out`]);
  };
  const words = graph.node('Gather', [weights.add(graph, 'words', [vocabulary, hidden]), ids], ['word']);
  const kinds = graph.node('Gather', [weights.add(graph, 'types', [2, hidden]), types], ['type']);
  const shape = graph.node('Shape', [ids], ['shape'], { start: 1, end: 2 });
  const places = graph.node(
    'Slice',
    [
      weights.add(graph, 'places', [positions, hidden]),
      graph.integers('zero', [0]),
      shape,
      graph.integers('first', [0]),
    ],
    ['place'],
  );
  const sum = graph.node('Add', [graph.node('Add', [words, kinds], ['worded']), places], ['embedded']);
  let x = norm(sum, 'embedding');
  const wide = graph.node('Unsqueeze', [mask, graph.integers('maskAxes', [1, 2])], ['wide']);
  const kept = graph.node('Cast', [wide], ['kept'], { to: 1 });
  const lost = graph.node('Sub', [kept, graph.floats('one', [1], [])], ['lost']);
  const bias = graph.node('Mul', [lost, graph.floats('far', [10_000], [])], ['bias']);
  const split = graph.integers('split', [0, 0, heads, headSize]);
  const joined = graph.integers('joined', [0, 0, hidden]);
  const scale = graph.floats('scale', [1 / Math.sqrt(headSize)], []);
  for (let layer = 0; layer < layers; layer++) {
    const name = `layer${layer}`;
    const side = (part: string, perm: readonly number[]): string => {
      const out = linear(x, `${name}.${part}`, hidden, hidden);
      const cut = graph.node('Reshape', [out, split], [`${name}.${part}.cut`]);
      return graph.node('Transpose', [cut], [`${name}.${part}.heads`], { perm });
    };
    const [query, key, value] = [
      side('query', [0, 2, 1, 3]),
      side('key', [0, 2, 3, 1]),
      side('value', [0, 2, 1, 3]),
    ];
    const scores = graph.node('MatMul', [query, key], [`${name}.scores`]);
    const scaled = graph.node('Mul', [scores, scale], [`${name}.scaled`]);
    const masked = graph.node('Add', [scaled, bias], [`${name}.masked`]);
    const shares = graph.node('Softmax', [masked], [`${name}.shares`], { axis: -1 });
    const mixed = graph.node('MatMul', [shares, value], [`${name}.mixed`]);
    const back = graph.node('Transpose', [mixed], [`${name}.back`], { perm: [0, 2, 1, 3] });
    const merged = graph.node('Reshape', [back, joined], [`${name}.merged`]);
    const attended = linear(merged, `${name}.output`, hidden, hidden);
    x = norm(graph.node('Add', [x, attended], [`${name}.attended`]), `${name}.norm1`);
    const up = linear(x, `${name}.up`, hidden, 4 * hidden);
    const active = graph.node('Gelu', [up], [`${name}.gelu`]);
    const down = linear(active, `${name}.down`, 4 * hidden, hidden);
    x = norm(graph.node('Add', [x, down], [`${name}.added`]), `${name}.norm2`);
  }
  graph.node('Identity', [x], ['last_hidden_state']);
  graph.output('last_hidden_state', 'float32', ['batch', 'tokens', hidden]);
  return graph;
}

export function main(argv: readonly string[]): number {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      layers: { type: 'string', default: '24' },
      hidden: { type: 'string', default: '1024' },
      heads: { type: 'string', default: '16' },
      vocabulary: { type: 'string', default: '30522' },
      positions: { type: 'string', default: '512' },
    },
  });
  const [folder] = positionals;
  if (folder === undefined)
    throw new Error('Usage: node dist/bench/onnx/make-bert.js FOLDER [--layers N] [--hidden N] …');
  const size = (name: keyof typeof values): number => wholeNumber(name, values[name], 1);
  makeBert(folder, {
    layers: size('layers'),
    hidden: size('hidden'),
    heads: size('heads'),
    vocabulary: size('vocabulary'),
    positions: size('positions'),
  });
  return 0;
}

if (process.argv[1]?.endsWith('make-bert.js')) process.exitCode = main(process.argv.slice(2));
