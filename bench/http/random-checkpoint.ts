/**
 * A checkpoint of a shape with random weights, complete enough for the server to load it as a user's: config.json,
 * tokenizer.json, model.safetensors.
 *
 * In      a folder with config.json (partitioner/shapes); where to write
 * Out     the folder; the weights are those of `--random-weights` (seed 0), in the type that config.json names
 * Text    the embedded model's tokenizer, with made-up words for the ids it does not have
 * Limits  one chunk of a tensor in memory; the disk holds the checkpoint (2 bytes a weight)
 * Errors  as the partitioner's; file errors as they come
 */
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelShape } from '../../partitioner/architectures/registry.js';
import { readModelConfig } from '../../partitioner/checkpoint/config-file.js';
import { randomSource } from '../../partitioner/checkpoint/random-source.js';
import {
  rowShape,
  STORED_TYPE_BYTES,
  type TensorInfo,
  type TensorSource,
} from '../../partitioner/checkpoint/tensor-source.js';
import { configuredType } from '../../partitioner/open-model.js';
import { expectedTensors } from '../../partitioner/plan/role-tensors.js';

const EMBEDDED_MODEL = fileURLToPath(new URL('../../../models/embedded', import.meta.url));
const CHUNK_BYTES = 64 * 2 ** 20;
const SAFETENSORS_TYPES = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;

export async function writeRandomCheckpoint(shapeFolder: string, into: string): Promise<void> {
  const config = readModelConfig(shapeFolder);
  const shape = await readModelShape(config);
  const type = configuredType(config);
  const source = randomSource(
    expectedTensors(shape).map((tensor) => ({ ...tensor, type })),
    0,
  );
  const half = `${into}.${process.pid}`;
  mkdirSync(half, { recursive: true });
  copyFileSync(path.join(shapeFolder, 'config.json'), path.join(half, 'config.json'));
  writeFileSync(path.join(half, 'tokenizer.json'), JSON.stringify(paddedTokenizer(shape.vocabSize)));
  writeWeights(path.join(half, 'model.safetensors'), source);
  renameSync(half, into);
}

function paddedTokenizer(vocabSize: number): unknown {
  const tokenizer = JSON.parse(readFileSync(path.join(EMBEDDED_MODEL, 'tokenizer.json'), 'utf8'));
  const { vocab } = tokenizer.model;
  for (let id = Object.keys(vocab).length; id < vocabSize; id++) vocab[`t${id}`] = id;
  return tokenizer;
}

function writeWeights(file: string, source: TensorSource): void {
  const tensors = [...source.tensors.values()];
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const tensor of tensors) {
    const { rowElements, rows } = rowShape(tensor.shape);
    const bytes = rows * rowElements * STORED_TYPE_BYTES[tensor.type];
    header[tensor.name] = {
      dtype: SAFETENSORS_TYPES[tensor.type],
      shape: tensor.shape,
      data_offsets: [end, end + bytes],
    };
    end += bytes;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const fd = openSync(file, 'w');
  try {
    writeSync(fd, length);
    writeSync(fd, json);
    for (const tensor of tensors) {
      for (const bytes of rowsOf(tensor, source)) writeSync(fd, bytes);
    }
  } finally {
    closeSync(fd);
  }
}

function* rowsOf({ name, shape, type }: TensorInfo, source: TensorSource): Generator<Uint8Array> {
  const { rowElements, rows } = rowShape(shape);
  const step = Math.max(1, Math.floor(CHUNK_BYTES / (rowElements * STORED_TYPE_BYTES[type])));
  for (let from = 0; from < rows; from += step) {
    yield source.readBytes(name, from, Math.min(rows, from + step));
  }
}
