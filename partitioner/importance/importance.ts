/**
 * How much each input of a linear counts when its weights are rounded to 4 bits: the mean square of that input, over some tokens
 * that the model was run on (calibration/).
 *
 * In      a file of the format below
 * Out     linear → float32 [inputs], before a rank's padding
 * Format  safetensors, one float32 tensor a linear, named as its item (layer-0.qkv, layer-0.down, head, …)
 * Limits  a file of MAX_IMPORTANCE_BYTES
 * Errors  ServingError CHECKPOINT_INVALID naming file and tensor
 */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { checkpointError } from '../checkpoint/json-file.js';
import { SafetensorsFile } from '../checkpoint/safetensors-file.js';
import type { LinearItem } from '../plan/plan-item.js';

export type Importance = ReadonlyMap<string, Float32Array>;

/** A thousand linears of 64 k inputs. */
const MAX_IMPORTANCE_BYTES = 1 << 28;

/** Name of a linear without its piece. */
export const wholeName = (name: string): string => name.replace(/\.piece-\d+$/, '');

/** @returns null: all inputs count alike */
export function importanceOf(importance: Importance | null, item: LinearItem): Float32Array | null {
  const found = importance?.get(wholeName(item.name)) ?? null;
  const columns = item.parts[0]?.columns ?? 0;
  // Shards of another shape were calibrated.
  return found?.length === columns ? found : null;
}

/** @throws ServingError CHECKPOINT_INVALID */
export function readImportance(path: string): Importance {
  const file = SafetensorsFile.open(path);
  try {
    if (file.bytes > MAX_IMPORTANCE_BYTES) {
      throw checkpointError(path, `is ${file.bytes} bytes long, at most ${MAX_IMPORTANCE_BYTES} are read`);
    }
    const importance = new Map<string, Float32Array>();
    for (const [name, entry] of file.entries) {
      if (entry.dtype !== 'F32') throw checkpointError(path, `${name} is ${entry.dtype}, not F32`);
      const values = new Float32Array((entry.end - entry.start) / 4);
      file.read(entry, 0, new Uint8Array(values.buffer));
      if (!values.every((value) => value >= 0 && Number.isFinite(value))) {
        throw checkpointError(path, `${name} has a number that is no mean square`);
      }
      importance.set(name, values);
    }
    return importance;
  } finally {
    file.close();
  }
}

export function writeImportance(path: string, importance: Importance): void {
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, values] of importance) {
    const start = end;
    end += values.byteLength;
    header[name] = { dtype: 'F32', shape: [values.length], data_offsets: [start, end] };
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const values = [...importance.values()].map((of) => Buffer.from(of.buffer, of.byteOffset, of.byteLength));
  const part = `${path}.${process.pid}`;
  writeFileSync(part, Buffer.concat([length, text, ...values]), { flush: true });
  renameSync(part, path);
}

/** What a content name knows it by. */
export const importanceDigest = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');
