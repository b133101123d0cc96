/**
 * The shard manifest: everything a shard worker must obey and everything the server must know of a model.
 *
 * Written by the partitioner as `manifest.json` beside the shards, read by the worker (all of it) and the server (`model`,
 * `worldSize`, sizes). One manifest describes all ranks; a rank finds its files under its index.
 *
 * Layout of a shard folder (named by content, see partitioner/store):
 *   manifest.json
 *   shared.weights           tensors every rank holds whole (embedding, norms, rope tables); absent tensors: absent file
 *   rank-0.weights  …        one file a rank; every tensor starts at a multiple of 4096 bytes
 *   rank-0/<segment>.onnx …  ONNX graphs; their initializers point into the two files above by external data
 *
 * A step of the engine is the `program`, run in order over packed tokens: activations are [tokens, columns], where `tokens`
 * counts the tokens of ALL sequences of the step and `rows` those whose logits, or whose vector, are wanted.
 *
 * Limits  proto/limits.ts (world size, format version)
 * Errors  parseManifest throws SHARDS_INVALID naming the field
 */
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { attend } from './attend.js';
import { ServingError } from './errors.js';
import { MANIFEST_FORMAT_VERSION, MAX_WORLD_SIZE } from './limits.js';
import { modelInfo } from './model-info.js';
import { EIGHT_BIT_GROUPS, oneOf } from './partition.js';

const count = Type.Integer({ minimum: 0 });
const positive = Type.Integer({ minimum: 1 });
const name = Type.String({ pattern: '^[A-Za-z0-9._-]{1,100}$' });
const sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });

/** Element types of activation buffers and of stored tensors. */
const elementType = Type.Union([
  Type.Literal('float32'),
  Type.Literal('float16'),
  Type.Literal('bfloat16'),
  Type.Literal('int64'),
  Type.Literal('int32'),
  Type.Literal('uint8'),
  Type.Literal('int8'),
]);

/**
 * A buffer that segments read and write, [first, columns]; `first` is the number of tokens or of logit rows of the step,
 * or 1. `rank3` buffers are seen by the graph as [1, first, columns] (rotary embedding and attention want a batch axis),
 * `rank1` as [first], `row` as [1, first] (positions: one batch of `first`).
 * place: `worker` private memory · `partial` this rank's summand of an all-reduce, memory given by the collective ·
 * `sum` its result, likewise.
 */
const buffer = Type.Object({
  name,
  type: Type.Union([Type.Literal('float32'), Type.Literal('int64')]),
  first: Type.Union([Type.Literal('tokens'), Type.Literal('rows'), Type.Literal('one')]),
  columns: positive,
  shape: Type.Union([
    Type.Literal('rank1'),
    Type.Literal('rank2'),
    Type.Literal('rank3'),
    Type.Literal('row'),
  ]),
  place: Type.Union([Type.Literal('worker'), Type.Literal('partial'), Type.Literal('sum')]),
});

/** Graph input or output name → buffer name. */
const binding = Type.Record(Type.String(), name);

const runOp = Type.Object({
  op: Type.Literal('run'),
  /** File stem of the segment. */
  segment: name,
  inputs: binding,
  outputs: binding,
});

/**
 * Attention of one layer, run once a sequence by the variant that fits (attend.variants). The worker first copies the step's new rows of
 * `key` and `value` to the sequence's slot, where every KV head has rows of its own, then runs a segment over views of them, `key-H` and
 * `value-H` [1, t, dim] for KV head H; `length` int64 [1] says how many of their rows count. Heads that share a KV head stand side by side.
 * With a window only the last rows are passed.
 */
const attendOp = Type.Object({
  op: Type.Literal('attend'),
  layer: count,
  query: name,
  key: name,
  value: name,
  output: name,
  /** Tokens a query sees up to itself, itself included, and where keys are in the step as many from itself on; null: all. */
  window: Type.Union([positive, Type.Null()]),
  /** Texts are cut into pieces of so many tokens, and a query sees its own piece alone; absent: not cut. */
  piece: Type.Optional(positive),
});

/** partial (this rank's summand) → sum (the same bits on every rank). float32 [tokens, columns]. */
const allReduceOp = Type.Object({ op: Type.Literal('all-reduce'), partial: name, sum: name });

/** What the hidden states of a text's tokens become one vector by; sentence-transformers' names are in the partitioner. */
const pooling = Type.Union([
  Type.Literal('first'),
  Type.Literal('last'),
  Type.Literal('mean'),
  Type.Literal('max'),
  /** The sum over the square root of the number of tokens. */
  Type.Literal('mean-sqrt'),
  /** The mean weighed by the token's place, from 1 on. */
  Type.Literal('mean-by-place'),
]);

/**
 * The tokens of each sequence that wants it, made one row: float32 [tokens, columns] → [rows, poolings · columns], the
 * poolings side by side in their order.
 */
const poolOp = Type.Object({
  op: Type.Literal('pool'),
  hidden: name,
  pooled: name,
  poolings: Type.Array(pooling, { minItems: 1, maxItems: 6 }),
});

const programOp = Type.Union([runOp, attendOp, allReduceOp, poolOp]);

const fileEntry = Type.Object({
  path: Type.String({ pattern: '^[A-Za-z0-9._/-]{1,200}$' }),
  bytes: count,
  sha256,
});

/** One stored tensor, for --verify and for people; the graphs hold the same offsets. */
const tensorEntry = Type.Object({
  name: Type.String(),
  file: Type.Union([Type.Literal('shared'), Type.Literal('rank')]),
  type: elementType,
  /** Shape on one rank. */
  shape: Type.Array(count),
  /** Byte offset in its file: the same on every rank. */
  offset: count,
  bytes: count,
  /** How the ranks' pieces make the whole tensor. */
  split: Type.Union([
    Type.Literal('column'),
    Type.Literal('row'),
    Type.Literal('vocab'),
    Type.Literal('replicated'),
    Type.Literal('rank-0'),
  ]),
  /** Checkpoint tensors it was made of, in order. */
  sources: Type.Array(Type.String()),
  /** Quantised weights: [rows, blocks, blockSize · bits / 8]. */
  packing: Type.Optional(
    Type.Object({ bits: Type.Union([Type.Literal(4), Type.Literal(8)]), blockSize: positive }),
  ),
  /** Weights in the layout of our own kernels: bytes [panels · panel's bytes] (partitioner/quantise/panels.ts). */
  panels: Type.Optional(
    Type.Object({
      bits: Type.Union([Type.Literal(4), Type.Literal(8), Type.Literal(16), Type.Literal(32)]),
      /** Inputs that share a scale; 0: floats. */
      blockSize: count,
      /** Each block has a zero point. */
      zero: Type.Boolean(),
      /** 16 bits are bfloat16, not float16. */
      bfloat: Type.Boolean(),
      outputs: positive,
      inputs: positive,
      /** Equal runs of the inputs whose products are added as a tree. */
      pieces: positive,
    }),
  ),
  /** A row-parallel weight that is cut further: which of the rank's pieces, that lie side by side. */
  piece: Type.Optional(Type.Object({ index: count, of: positive })),
});

const manifest = Type.Object({
  formatVersion: Type.Literal(MANIFEST_FORMAT_VERSION),
  toolVersion: Type.String(),
  /** Content name: hash of everything that decides the bytes of the shards. */
  name,
  worldSize: Type.Integer({ minimum: 1, maximum: MAX_WORLD_SIZE }),
  deviceClass: Type.Union([Type.Literal('cpu'), Type.Literal('webgpu'), Type.Literal('cuda')]),
  weightFormat: Type.Object({
    dtype: Type.Union([
      Type.Literal('fp32'),
      Type.Literal('fp16'),
      Type.Literal('bf16'),
      Type.Literal('int8'),
      Type.Literal('int4'),
    ]),
    /** What runs linears: our own kernels, whose panels are mapped as they are; or ONNX Runtime's operators. */
    layout: Type.Union([Type.Literal('panels'), Type.Literal('blocks')]),
    /** Weights that share a scale; null for floats. */
    blockSize: Type.Union([positive, Type.Null()]),
    /** false: each block has a zero point of its own. */
    symmetric: Type.Boolean(),
    /** nearest: by the largest weight of a block; search: the best of several by squared error. */
    scales: Type.Union([Type.Literal('nearest'), Type.Literal('search')]),
    /** Linears that int4 leaves at 8 bits: the head, those of queries, keys and values, all of the first or last layer, the MLPs' down projections. */
    eightBit: Type.Array(oneOf(EIGHT_BIT_GROUPS)),
    /** Degrees that divide it cut and add row-parallel products alike, as far as the model's shape lets them. */
    reproducibleDegree: Type.Union([Type.Literal(1), Type.Literal(2), Type.Literal(4), Type.Literal(8)]),
    /** What rows are rounded to that meet weights of int8 and int4 on a CPU (16 in blocks: not at all); absent: floats. */
    activationBits: Type.Optional(Type.Union([Type.Literal(8), Type.Literal(16)])),
  }),
  randomWeights: Type.Boolean(),
  model: modelInfo,
  /** Sizes of one rank. */
  perRank: Type.Object({
    numHeads: positive,
    numKvHeads: positive,
    headDim: positive,
    /** Columns of this rank's logits; rank r holds ids r·vocab … (r+1)·vocab − 1, of which those ≥ vocabSize are padding. */
    vocab: positive,
  }),
  buffers: Type.Array(buffer),
  program: Type.Array(programOp),
  attend,
  /**
   * Adds the ranks' partial sums as a tree of neighbours: graph inputs `rank-0` … float32 [values], output `sum`. What a collective adds
   * large messages with. null: a single rank.
   */
  sumSegment: Type.Union([name, Type.Null()]),
  /** Program inputs the worker fills, and the output it reads. */
  io: Type.Object({
    /** int64 [tokens] */
    ids: name,
    /** int64 [1, tokens] */
    positions: name,
    /** int64 [rows]: index of the packed token whose logits are wanted */
    rows: name,
    /** int64 [tokens]: 0 for a text, 1 for a second one beside it. Absent: nothing tells them apart. */
    kinds: Type.Optional(name),
    /** float32 [rows, vocab of this rank], of which a token is chosen; or, of an embedding model, [rows, dimensions], of a classifier of tokens [tokens, labels] */
    output: name,
  }),
  /**
   * Two rotary tables, one behind the other (LongRoPE): a sequence whose prompt and new tokens together may exceed `after`
   * adds `positionOffset` to all its positions. Absent: one table.
   */
  longContext: Type.Optional(Type.Object({ after: positive, positionOffset: positive })),
  shared: Type.Union([fileEntry, Type.Null()]),
  ranks: Type.Array(Type.Object({ weights: fileEntry, segments: Type.Array(fileEntry) })),
  tensors: Type.Array(tensorEntry),
  /** Checkpoint files the shards were made of: enough to see that nothing changed. */
  sources: Type.Array(Type.Object({ path: Type.String(), bytes: count, modifiedMs: Type.Number() })),
});

export type Manifest = Static<typeof manifest>;
export type ManifestBuffer = Static<typeof buffer>;
export type ProgramOp = Static<typeof programOp>;
export type RunOp = Static<typeof runOp>;
export type AttendOp = Static<typeof attendOp>;
export type AllReduceOp = Static<typeof allReduceOp>;
export type PoolOp = Static<typeof poolOp>;
export type Pooling = Static<typeof pooling>;
export type FileEntry = Static<typeof fileEntry>;
export type TensorEntry = Static<typeof tensorEntry>;
export type { ModelInfo } from './model-info.js';
export type ElementType = Static<typeof elementType>;

/** Bytes of one element. */
export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  uint8: 1,
  int8: 1,
};

/** All-reduces of one step: each rank's counter rises by so many. */
export function allReducesPerStep(program: readonly ProgramOp[]): number {
  return program.filter((op) => op.op === 'all-reduce').length;
}

/**
 * @param text content of manifest.json
 * @param where path for the message
 * @throws ServingError SHARDS_INVALID: not JSON, a missing or wrong field, a name that refers to nothing
 */
export function parseManifest(text: string, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ServingError('SHARDS_INVALID', `${where}: not JSON`, { cause });
  }
  if (!Value.Check(manifest, value)) {
    const first = Value.Errors(manifest, value).First();
    throw new ServingError(
      'SHARDS_INVALID',
      `${where}: ${first?.path || '/'}: ${first?.message ?? 'not a manifest'}`,
    );
  }
  checkReferences(value, where);
  return value;
}

/** Every name that the program uses must be declared, and every rank must be there. */
function checkReferences(value: Manifest, where: string): void {
  const fail = (what: string): never => {
    throw new ServingError('SHARDS_INVALID', `${where}: ${what}`);
  };
  if (value.ranks.length !== value.worldSize) {
    fail(`worldSize is ${value.worldSize} but ${value.ranks.length} ranks are listed`);
  }
  const known = new Map(value.buffers.map((entry) => [entry.name, entry]));
  if (known.size !== value.buffers.length) fail('a buffer name occurs twice');
  const need = (bufferName: string, place?: ManifestBuffer['place']): void => {
    const found = known.get(bufferName);
    if (!found) fail(`buffer ${bufferName} is used but not declared`);
    else if (place && found.place !== place) fail(`buffer ${bufferName} is ${found.place}, not ${place}`);
  };
  for (const op of value.program) {
    switch (op.op) {
      case 'run':
        for (const used of [...Object.values(op.inputs), ...Object.values(op.outputs)]) need(used);
        break;
      case 'attend':
        for (const used of [op.query, op.key, op.value, op.output]) need(used);
        break;
      case 'all-reduce':
        need(op.partial, 'partial');
        need(op.sum, 'sum');
        break;
      case 'pool':
        need(op.hidden);
        need(op.pooled);
        break;
    }
  }
  for (const used of Object.values(value.io)) need(used);
}
