/**
 * What makes keys and values of latents, where a GGUF file has it in two: the one matrix that Hugging Face's checkpoints have.
 *
 * Layout  `X.k_b_proj.weight` [heads, latent, plain]: each head's keys, turned; `X.v_b_proj.weight` [heads, value, latent] →
 *         `X.kv_b_proj.weight` [heads · (plain + value), latent]: of each head its keys above its values
 * In      TensorSource under Hugging Face's names (gguf-source.ts)
 * Out     TensorSource that has the one instead of the two
 * Limits  memory: the rows asked for, and one head's matrices
 * Errors  ServingError CHECKPOINT_INVALID naming the file and the tensor: one without the other, sizes that do not fit
 * Source  llama.cpp conversion/deepseek.py (modify_tensors)
 */
import { checkpointError, printableName } from './json-file.js';
import {
  checkRowRange,
  readCodes,
  requireTensor,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

const KEYS = '.k_b_proj.weight';
const VALUES = '.v_b_proj.weight';
const JOINED = '.kv_b_proj.weight';

interface Latents {
  keys: string;
  values: string;
  plain: number;
  /** A head's, keys above values. */
  rows: number;
  rank: number;
}

/** @param file for a message. @throws ServingError CHECKPOINT_INVALID */
export function latentSource(source: TensorSource, file: string): TensorSource {
  const tensors = new Map(source.tensors);
  const joined = new Map<string, Latents>();
  for (const keys of source.tensors.keys()) {
    if (!keys.endsWith(KEYS)) continue;
    const stem = keys.slice(0, -KEYS.length);
    const name = stem + JOINED;
    if (tensors.has(name)) throw checkpointError(file, `has ${printableName(name)} twice, whole and in two`);
    const { heads, ...latents } = latentsOf(source, keys, stem + VALUES, file);
    tensors.delete(keys);
    tensors.delete(latents.values);
    tensors.set(name, { name, type: 'float32', shape: [heads * latents.rows, latents.rank] });
    joined.set(name, latents);
  }
  if (joined.size === 0) return source;
  let kept: { key: string; matrix: Float32Array } | null = null;
  /** All rows of one head. */
  const headOf = (name: string, latents: Latents, head: number): Float32Array => {
    const key = `${name}/${head}`;
    if (kept?.key !== key) kept = { key, matrix: readHead(source, latents, head) };
    return kept.matrix;
  };
  const readJoined = (name: string, latents: Latents, start: number, into: Float32Array): void => {
    const { rank, rows } = latents;
    for (let at = 0; at < into.length; ) {
      const row = start + at / rank;
      const head = Math.floor(row / rows);
      const matrix = headOf(name, latents, head);
      const from = (row - head * rows) * rank;
      const count = Math.min(matrix.length - from, into.length - at);
      into.set(matrix.subarray(from, from + count), at);
      at += count;
    }
  };
  const own: TensorSource = {
    ...{ tensors, files: source.files },
    ...(source.unsupported ? { unsupported: source.unsupported } : {}),
    ...(source.coded ? { coded: source.coded } : {}),
    readCodes: (name, start, end) => readCodes(source, name, start, end),
    readFloat32(name, start, end, into) {
      const latents = joined.get(name);
      if (latents === undefined) return source.readFloat32(name, start, end, into);
      const elements = checkRowRange(requireTensor(own, name), start, end, into);
      const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
      readJoined(name, latents, start, values);
      return values;
    },
    readHalves: (name, start, end, into) =>
      joined.has(name) ? null : (source.readHalves?.(name, start, end, into) ?? null),
    readBytes: (name, start, end) =>
      joined.has(name)
        ? new Uint8Array(own.readFloat32(name, start, end).buffer)
        : source.readBytes(name, start, end),
    close: () => {
      kept = null;
      source.close();
    },
  };
  return own;
}

function latentsOf(
  source: TensorSource,
  keys: string,
  values: string,
  file: string,
): Latents & { heads: number } {
  const shapeOf = (name: string): TensorInfo['shape'] => source.tensors.get(name)?.shape ?? [];
  const [heads = 0, rank = 0, plain = 0, ...more] = shapeOf(keys);
  const [others = 0, value = 0, columns = 0, ...further] = shapeOf(values);
  const fits = heads === others && rank === columns && plain > 0 && value > 0;
  if (!fits || more.length + further.length > 0) {
    throw checkpointError(
      `${file}: ${printableName(keys)} [${shapeOf(keys).join(', ')}]`,
      `and ${printableName(values)} [${shapeOf(values).join(', ')}] are not [heads, latent, n] and [heads, m, latent]`,
    );
  }
  return { keys, values, plain, rows: plain + value, rank, heads };
}

function readHead(
  source: TensorSource,
  { keys, values, plain, rank, rows }: Latents,
  head: number,
): Float32Array {
  const matrix = new Float32Array(rows * rank);
  const turned = source.readFloat32(keys, head, head + 1);
  for (let row = 0; row < plain; row++) {
    for (let column = 0; column < rank; column++) matrix[row * rank + column] = turned[column * plain + row]!;
  }
  matrix.set(source.readFloat32(values, head, head + 1), plain * rank);
  return matrix;
}
