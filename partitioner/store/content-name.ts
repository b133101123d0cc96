/**
 * The name of a set of shards: a hash of everything that decides their bytes.
 *
 * In      configuration files, checkpoint files, world size, format, device class, seed, and this program itself
 * Out     `<model type>-<dtype>[-onnx][-b<block>][-zp][-rtn][-<group>8]…-tp<n>-<device>-<16 hex digits>`; onnx: for ONNX Runtime's
 *         operators, zp: with zero points, rtn: scales not searched, <group>8: linears at 8 bits
 * Why so  A checkpoint file counts by name, length, time of change and samples of its content, not by a hash of all of it:
 *         reading 140 GB to find that nothing changed would take longer than making the start worthwhile. Time alone would
 *         not do: archives and images are often unpacked with one fixed time, and two fine-tunes have equal lengths.
 *         The program counts by its compiled files, so that shards of another version are never taken for ours.
 * Errors  what the file system throws
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MANIFEST_FORMAT_VERSION } from '../../proto/limits.js';
import type { Manifest } from '../../proto/manifest.js';
import { protoFile } from '../../proto/proto-file.js';
import type { SourceFile } from '../checkpoint/tensor-source.js';
import type { WeightFormat } from '../quantise/weight-format.js';

/** Each file is looked at in so many places, the first and the last among them. */
const SAMPLES = 16;
const SAMPLE_BYTES = 4096;

/** Programs of this folder that write no shard: another version of them changes no byte. */
const READERS = new Set([
  'main.js',
  'named-shapes.js',
  'plan-table.js',
  'report.js',
  'verify.js',
  'verify-codes.js',
  'verify-error.js',
  'verify-fill.js',
  'verify-roles.js',
  'verify-rope.js',
  'verify-tensors.js',
]);

export interface ContentNameInputs {
  modelType: string;
  folder: string;
  /** config.json and generation_config.json as parsed. */
  configs: readonly unknown[];
  sources: readonly SourceFile[];
  worldSize: number;
  format: WeightFormat;
  deviceClass: Manifest['deviceClass'];
  toolVersion: string;
  /** Null: weights come from the checkpoint. */
  randomSeed: number | null;
  /** Digest of how much each input counts; absent: all alike. */
  importance?: string;
  /** Segments tell the squares of their linears' inputs. */
  tellsSquares?: boolean;
}

export function contentName(inputs: ContentNameInputs): string {
  const { modelType, folder, sources, worldSize, format, deviceClass } = inputs;
  const hash = createHash('sha256');
  hash.update(JSON.stringify({ ...inputs, folder: undefined, formatVersion: MANIFEST_FORMAT_VERSION }));
  for (const source of sources) sampleFile(hash, path.join(folder, source.path), source.bytes);
  hash.update(programFingerprint());
  const type = modelType.replaceAll(/[^A-Za-z0-9_]/g, '_').slice(0, 40);
  return `${type}-${formatName(format)}-tp${worldSize}-${deviceClass}-${hash.digest('hex').slice(0, 16)}`;
}

/** For people: the hash tells formats apart anyway. */
function formatName({ dtype, layout, blockSize, symmetric, scales, eightBit }: WeightFormat): string {
  const operators = layout === 'panels' ? '' : '-onnx';
  if (blockSize === null) return `${dtype}${operators}`;
  const searched = dtype === 'int4' && scales === 'nearest' ? '-rtn' : '';
  return `${dtype}${operators}-b${blockSize}${symmetric ? '' : '-zp'}${searched}${eightBit.map((group) => `-${group}8`).join('')}`;
}

function sampleFile(hash: Hash, file: string, bytes: number): void {
  const fd = openSync(file, 'r');
  try {
    const sample = Buffer.alloc(SAMPLE_BYTES);
    const last = Math.max(0, bytes - SAMPLE_BYTES);
    for (let index = 0; index < SAMPLES; index++) {
      const read = readSync(fd, sample, 0, SAMPLE_BYTES, Math.floor((last * index) / (SAMPLES - 1)));
      hash.update(sample.subarray(0, read));
    }
  } finally {
    closeSync(fd);
  }
}

let fingerprint: string | undefined;

/** Hash of the compiled files of this program and of the ONNX format it writes. */
function programFingerprint(): string {
  if (fingerprint !== undefined) return fingerprint;
  const hash = createHash('sha256');
  const root = fileURLToPath(new URL('..', import.meta.url));
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  for (const file of files) {
    if (file.endsWith('.js') && !READERS.has(file)) hash.update(readFileSync(path.join(root, file)));
  }
  hash.update(readFileSync(protoFile('onnx.proto')));
  fingerprint = hash.digest('hex');
  return fingerprint;
}
