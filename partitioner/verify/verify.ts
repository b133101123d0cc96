/**
 * `--verify`: reads written shards back, joins the slices again and compares them with the checkpoint.
 *
 * In      a shard folder; the model folder it was made of (or the seed of its random weights)
 * Out     how many tensors and bytes were compared
 * How     checksums of all files; places of all weights in all graphs; every role (verify-roles.ts); every tensor (verify-tensors.ts)
 * Limits  memory: one chunk of rows
 * Errors  ServingError SHARDS_INVALID naming file, tensor, rank and row; CHECKPOINT_INVALID from the checkpoint
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type FileEntry, type Manifest, parseManifest, type TensorEntry } from '../../proto/manifest.js';
import { decodeOnnx, type OnnxModel } from '../graph/onnx-writer.js';
import { readImportance } from '../importance/importance.js';
import { type ModelOptions, openModel } from '../open-model.js';
import { heldCodes } from '../quantise/coded-format.js';
import { usesImportance } from '../quantise/weight-format.js';
import { invalid } from './verify-error.js';
import { checkRoles } from './verify-roles.js';
import { ShardFiles, TensorVerifier } from './verify-tensors.js';

const HASH_CHUNK_BYTES = 1 << 22;

export interface VerifyOptions extends ModelOptions {
  shardFolder: string;
  signal?: AbortSignal;
  /** What the shards were made with. */
  importance?: string | undefined;
}

export interface Verification {
  tensors: number;
  /** Over all ranks. */
  bytes: number;
}

/** @throws ServingError SHARDS_INVALID, CHECKPOINT_INVALID */
export async function verifyShards(options: VerifyOptions): Promise<Verification> {
  const { shardFolder, signal } = options;
  const manifestFile = path.join(shardFolder, 'manifest.json');
  const manifest = parseManifest(readFileSync(manifestFile, 'utf8'), manifestFile);
  for (const entry of allFiles(manifest)) await checkFile(shardFolder, entry, signal);
  checkGraphs(shardFolder, manifest);
  const { shape, source } = await openModel(options);
  const files = new ShardFiles(shardFolder, manifest);
  try {
    const asks = usesImportance(manifest.weightFormat) && options.importance !== undefined;
    const importance = asks ? readImportance(options.importance!) : null;
    checkRoles(manifest, shape, heldCodes(source.coded ?? new Map(), manifest.weightFormat));
    const verifier = new TensorVerifier(manifest, shape, source, files, importance);
    for (const tensor of manifest.tensors) {
      for (const _ of verifier.compare(tensor)) {
        await nextTurn();
        signal?.throwIfAborted();
      }
    }
    return { tensors: manifest.tensors.length, bytes: files.bytesRead };
  } finally {
    files.close();
    source.close();
  }
}

function allFiles(manifest: Manifest): FileEntry[] {
  return [manifest.shared, ...manifest.ranks.flatMap((rank) => [rank.weights, ...rank.segments])].filter(
    (entry) => entry !== null,
  );
}

async function checkFile(folder: string, entry: FileEntry, signal?: AbortSignal): Promise<void> {
  const fd = openSync(path.join(folder, entry.path), 'r');
  try {
    const hash = createHash('sha256');
    // A shard has many graphs of some kilobytes: a whole chunk for each would be zeroed and freed.
    const buffer = Buffer.alloc(Math.min(HASH_CHUNK_BYTES, Math.max(1, fstatSync(fd).size)));
    let bytes = 0;
    for (let read = -1; read !== 0; bytes += read) {
      read = readSync(fd, buffer);
      hash.update(buffer.subarray(0, read));
      await nextTurn();
      signal?.throwIfAborted();
    }
    if (bytes !== entry.bytes)
      throw invalid(`${entry.path} has ${bytes} bytes, the manifest says ${entry.bytes}`);
    if (hash.digest('hex') !== entry.sha256)
      throw invalid(`${entry.path}: its SHA-256 differs from the manifest's`);
  } finally {
    closeSync(fd);
  }
}

/** Sizes and format that a node of our kernels reads its weight by. */
function checkPanels(
  { attribute, input }: OnnxModel['graph']['node'][number],
  tensors: ReadonlyMap<string, TensorEntry>,
  numHeads: number,
): void {
  const panels = tensors.get(input[1] ?? '')?.panels;
  const read = { groups: 1, ...Object.fromEntries(attribute.map(({ i, name }) => [name, Number(i)])) };
  const { bfloat, bits, blockSize, inputs, outputs = 0, pieces, zero } = panels ?? {};
  // Latents have a matrix for each head.
  const groups = /^layer-\d+\.(key|value)-up\./.test(input[1] ?? '') ? numHeads : 1;
  const stored = {
    bits,
    inputs,
    groups,
    outputs: outputs / groups,
    pieces,
    block: blockSize,
    zero: zero ? 1 : 0,
    bfloat: bfloat ? 1 : 0,
  };
  if (Object.entries(stored).some(([name, value]) => read[name as keyof typeof read] !== value)) {
    throw invalid(`${input[1]} is read otherwise than the manifest says`);
  }
}

/** As it is stored, or its rows as a stack of matrices. */
function isSeenIn(dims: readonly number[], shape: readonly number[]): boolean {
  const size = (axes: readonly number[]): number => axes.reduce((product, axis) => product * axis, 1);
  if (dims.length === shape.length) return dims.join() === shape.join();
  return dims.length === 3 && shape.length === 2 && dims[2] === shape[1] && size(dims) === size(shape);
}

/** Every weight of every graph is the manifest's tensor of that name, in the file and at the place the manifest says. */
function checkGraphs(folder: string, manifest: Manifest): void {
  const tensors = new Map(manifest.tensors.map((tensor) => [tensor.name, tensor]));
  manifest.ranks.forEach((rank, index) => {
    for (const segment of rank.segments) {
      const { graph } = decodeOnnx(readFileSync(path.join(folder, segment.path)));
      for (const { name, dims, external_data: external = [] } of graph.initializer) {
        if (external.length === 0) continue; // a shape, inside the graph
        const place = Object.fromEntries(external.map(({ key, value }) => [key, value]));
        const tensor = tensors.get(name);
        const file = tensor?.file === 'shared' ? manifest.shared?.path : manifest.ranks[index]?.weights.path;
        const isRight =
          tensor !== undefined &&
          place.location === file &&
          Number(place.offset) === tensor.offset &&
          Number(place.length) === tensor.bytes &&
          isSeenIn(dims, tensor.shape);
        if (!isRight) throw invalid(`${segment.path}: its weight ${name} is not where the manifest says`);
      }
      for (const node of graph.node)
        if (node.domain === 'shardserve') checkPanels(node, tensors, manifest.perRank.numHeads);
    }
  });
}
