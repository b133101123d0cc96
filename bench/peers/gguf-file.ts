/**
 * A model of a Llama shape with random weights as llama.cpp reads it: a GGUF file, matrices in Q4_0, norms in float32.
 *
 * Run     also by itself: node dist/bench/peers/gguf-file.js SHAPE_FOLDER FILE
 * In      config.json of a Llama shape (partitioner/shapes); where to write
 * Out     the file, whole or not at all; a vocabulary of bytes and made-up words, which no measurement looks at
 * Values  Q4_0 blocks of 32: one scale for all, so that weights have a deviation of about 0.01, and noise in the quants
 * Limits  the Llama architecture only: what is compared must be the same work. Long-context rope factors are left out: they
 *         change angles, not time
 * Errors  Error for another architecture
 * Source  the GGUF specification, version 3; block_q4_0 of ggml: a half-precision scale, then 16 bytes of quants
 */
import { closeSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';

const ALIGNMENT = 32;
const Q4_0 = { id: 2, blockElements: 32, blockBytes: 18 } as const;
const FLOAT32 = { id: 0, blockElements: 1, blockBytes: 4 } as const;
/** 0.002 in half precision, little endian. */
const SCALE_BYTES = [0x19, 0x18] as const;
/** Value types of the metadata. */
const Kind = { UINT32: 4, INT32: 5, FLOAT32: 6, STRING: 8, ARRAY: 9 } as const;
/** llama.cpp's token types. */
const TokenType = { NORMAL: 1, UNKNOWN: 2, CONTROL: 3, BYTE: 6 } as const;
/** `general.file_type` of a file that is mostly Q4_0. */
const FILE_TYPE_Q4_0 = 2;
/** Noise that is written again and again: 4 MiB, of a length that shares no factor with a block's. */
const NOISE_BYTES = 4 * 2 ** 20 - 3;
/** From where one tensor's noise begins to where the next one's does. */
const NOISE_STEP = 24_683;

export interface LlamaSizes {
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  vocab: number;
  contextLength: number;
  epsilon: number;
  ropeTheta: number;
  tiedHead: boolean;
}

/** @throws Error when it is no Llama */
export function readLlamaSizes(shapeFolder: string): LlamaSizes {
  const config = JSON.parse(readFileSync(path.join(shapeFolder, 'config.json'), 'utf8'));
  if (config.model_type !== 'llama') {
    throw new Error(`bench:peers compares Llama shapes; model_type is ${config.model_type}`);
  }
  return {
    hidden: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim ?? config.hidden_size / config.num_attention_heads,
    ffn: config.intermediate_size,
    vocab: config.vocab_size,
    contextLength: config.max_position_embeddings,
    epsilon: config.rms_norm_eps,
    ropeTheta: config.rope_theta,
    tiedHead: config.tie_word_embeddings,
  };
}

interface Tensor {
  name: string;
  /** Fastest first. */
  dimensions: number[];
  type: typeof Q4_0 | typeof FLOAT32;
}

export function writeGguf(file: string, sizes: LlamaSizes): void {
  const tensors = listTensors(sizes);
  const metadata = listMetadata(sizes);
  const half = `${file}.${process.pid}`;
  const fd = openSync(half, 'w');
  try {
    const infos: Buffer[] = [];
    let offset = 0;
    for (const { dimensions, name, type } of tensors) {
      infos.push(
        text(name),
        uint32(dimensions.length),
        ...dimensions.map(uint64),
        uint32(type.id),
        uint64(offset),
      );
      offset += padded(tensorBytes({ name, dimensions, type }));
    }
    const head = Buffer.concat([
      Buffer.from('GGUF'),
      uint32(3),
      uint64(tensors.length),
      uint64(metadata.length),
      ...metadata,
      ...infos,
    ]);
    writeSync(fd, Buffer.concat([head, Buffer.alloc(padded(head.length) - head.length)]));
    const noise = makeNoise();
    for (const [index, tensor] of tensors.entries()) {
      writeSync(fd, tensor.type === FLOAT32 ? ones(tensor) : quants(tensor, noise, index));
    }
  } finally {
    closeSync(fd);
  }
  renameSync(half, file);
}

function listTensors(sizes: LlamaSizes): Tensor[] {
  const { ffn, headDim, heads, hidden, kvHeads, vocab } = sizes;
  const matrix = (name: string, inputs: number, outputs: number): Tensor => ({
    name: `${name}.weight`,
    dimensions: [inputs, outputs],
    type: Q4_0,
  });
  const norm = (name: string): Tensor => ({ name: `${name}.weight`, dimensions: [hidden], type: FLOAT32 });
  const layer = (index: number): Tensor[] => {
    const of = (name: string): string => `blk.${index}.${name}`;
    return [
      norm(of('attn_norm')),
      matrix(of('attn_q'), hidden, heads * headDim),
      matrix(of('attn_k'), hidden, kvHeads * headDim),
      matrix(of('attn_v'), hidden, kvHeads * headDim),
      matrix(of('attn_output'), heads * headDim, hidden),
      norm(of('ffn_norm')),
      matrix(of('ffn_gate'), hidden, ffn),
      matrix(of('ffn_up'), hidden, ffn),
      matrix(of('ffn_down'), ffn, hidden),
    ];
  };
  return [
    matrix('token_embd', hidden, vocab),
    norm('output_norm'),
    ...(sizes.tiedHead ? [] : [matrix('output', hidden, vocab)]),
    ...Array.from({ length: sizes.layers }, (_, index) => layer(index)).flat(),
  ];
}

function listMetadata(sizes: LlamaSizes): Buffer[] {
  const entry = (key: string, kind: number, value: Buffer): Buffer =>
    Buffer.concat([text(key), uint32(kind), value]);
  const count = (key: string, value: number): Buffer => entry(key, Kind.UINT32, uint32(value));
  const real = (key: string, value: number): Buffer => entry(key, Kind.FLOAT32, float32(value));
  const array = (key: string, kind: number, values: Buffer): Buffer =>
    entry(key, Kind.ARRAY, Buffer.concat([uint32(kind), uint64(sizes.vocab), values]));
  const tokens = Array.from({ length: sizes.vocab }, (_, id) => tokenText(id));
  return [
    entry('general.architecture', Kind.STRING, text('llama')),
    entry('general.name', Kind.STRING, text('random')),
    count('general.file_type', FILE_TYPE_Q4_0),
    count('llama.context_length', sizes.contextLength),
    count('llama.embedding_length', sizes.hidden),
    count('llama.block_count', sizes.layers),
    count('llama.feed_forward_length', sizes.ffn),
    count('llama.attention.head_count', sizes.heads),
    count('llama.attention.head_count_kv', sizes.kvHeads),
    count('llama.attention.key_length', sizes.headDim),
    count('llama.attention.value_length', sizes.headDim),
    real('llama.attention.layer_norm_rms_epsilon', sizes.epsilon),
    count('llama.rope.dimension_count', sizes.headDim),
    real('llama.rope.freq_base', sizes.ropeTheta),
    count('llama.vocab_size', sizes.vocab),
    entry('tokenizer.ggml.model', Kind.STRING, text('llama')),
    array('tokenizer.ggml.tokens', Kind.STRING, Buffer.concat(tokens.map(text))),
    array('tokenizer.ggml.scores', Kind.FLOAT32, Buffer.alloc(4 * sizes.vocab)),
    array(
      'tokenizer.ggml.token_type',
      Kind.INT32,
      Buffer.concat(tokens.map((_, id) => uint32(tokenType(id)))),
    ),
    count('tokenizer.ggml.bos_token_id', 1),
    count('tokenizer.ggml.eos_token_id', 2),
  ];
}

/** The three that begin a SentencePiece vocabulary, the 256 bytes, then words. */
const SPECIAL = ['<unk>', '<s>', '</s>'];
const FIRST_WORD = SPECIAL.length + 256;

function tokenText(id: number): string {
  const special = SPECIAL[id];
  if (special) return special;
  if (id >= FIRST_WORD) return `t${id}`;
  return `<0x${(id - SPECIAL.length).toString(16).toUpperCase().padStart(2, '0')}>`;
}

function tokenType(id: number): number {
  if (id === 0) return TokenType.UNKNOWN;
  if (id < SPECIAL.length) return TokenType.CONTROL;
  return id < FIRST_WORD ? TokenType.BYTE : TokenType.NORMAL;
}

const tensorBytes = ({ dimensions, type }: Tensor): number =>
  (dimensions.reduce((product, size) => product * size, 1) / type.blockElements) * type.blockBytes;

function ones(tensor: Tensor): Buffer {
  const bytes = Buffer.alloc(padded(tensorBytes(tensor)));
  for (let at = 0; at < tensorBytes(tensor); at += 4) bytes.writeFloatLE(1, at);
  return bytes;
}

/** @param index tensors differ: who holds equal ones once would read less */
function quants(tensor: Tensor, noise: Buffer, index: number): Buffer {
  const length = tensorBytes(tensor);
  const bytes = Buffer.alloc(padded(length));
  const first = (index * NOISE_STEP) % noise.length;
  for (let at = -first; at < length; at += noise.length) noise.copy(bytes, Math.max(0, at), Math.max(0, -at));
  for (let at = 0; at < length; at += Q4_0.blockBytes) {
    bytes[at] = SCALE_BYTES[0];
    bytes[at + 1] = SCALE_BYTES[1];
  }
  return bytes;
}

/** xorshift32 (Marsaglia 2003). */
function makeNoise(): Buffer {
  const noise = Buffer.alloc(NOISE_BYTES);
  let state = 0x2545f491;
  for (let at = 0; at < noise.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    noise[at] = state >>> 8;
  }
  return noise;
}

const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

if (process.argv[1]?.endsWith('gguf-file.js')) {
  const [shapeFolder = '', file = ''] = process.argv.slice(2);
  if (file === '') throw new Error('Usage: node dist/bench/peers/gguf-file.js SHAPE_FOLDER FILE');
  writeGguf(file, readLlamaSizes(shapeFolder));
}
