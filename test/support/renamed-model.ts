/**
 * A golden's checkpoint under another name: the same weights, as a model that no family answers for.
 *
 * In      name of a golden, folder to write to, changes of config.json, another spelling of the tensors' names
 * Out     the folder, with config.json and model.safetensors
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { goldenFolder } from './golden.js';

export interface RenamedModel {
  /** A folder of test/golden/. */
  golden: string;
  folder: string;
  /** Keys of config.json; undefined removes one. */
  config?: Readonly<Record<string, unknown>>;
  rename?: (name: string) => string;
  /** float32 tensors besides, of zeros. */
  extra?: Readonly<Record<string, readonly number[]>>;
}

export const UNKNOWN = { architectures: ['UnheardOfForCausalLM'], model_type: 'unheard_of' };

export function writeRenamedModel({ golden, folder, config = {}, rename, extra = {} }: RenamedModel): string {
  mkdirSync(folder, { recursive: true });
  const from = goldenFolder(golden);
  const raw = JSON.parse(readFileSync(path.join(from, 'config.json'), 'utf8')) as Record<string, unknown>;
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ ...raw, ...UNKNOWN, ...config }));
  const header: Record<string, unknown> = {};
  const pieces: Buffer[] = [];
  let end = 0;
  const add = (name: string, dtype: string, shape: readonly number[], data: Buffer): void => {
    header[name] = { dtype, shape, data_offsets: [end, end + data.length] };
    pieces.push(data);
    end += data.length;
  };
  for (const file of readdirSync(from).filter((name) => name.endsWith('.safetensors'))) {
    const bytes = readFileSync(path.join(from, file));
    const start = 8 + Number(bytes.readBigUInt64LE());
    const entries = JSON.parse(bytes.subarray(8, start).toString()) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(entries)) {
      if (name === '__metadata__') continue;
      add(rename?.(name) ?? name, dtype, shape, bytes.subarray(start + offsets[0], start + offsets[1]));
    }
  }
  for (const [name, shape] of Object.entries(extra)) {
    add(name, 'F32', shape, Buffer.alloc(4 * shape.reduce((product, size) => product * size, 1)));
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path.join(folder, 'model.safetensors'), Buffer.concat([length, text, ...pieces]));
  return folder;
}
