/**
 * The files of one rank, checked before use: a shard that differs from its manifest is found at load, not in the text.
 *
 * In      shard folder, its manifest, rank
 * Out     graphs; nothing where all is as the manifest says
 * Errors  SHARDS_INVALID naming the file, and what was expected and seen
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../proto/errors.js';
import type { FileEntry, Manifest } from '../proto/manifest.js';

const PIECE_BYTES = 1024 * 1024;

/** Bytes of a graph of one rank. */
export function readSegment(shardFolder: string, rank: number, segment: string): Uint8Array {
  return readFileSync(path.join(shardFolder, `rank-${rank}`, `${segment}.onnx`));
}

/** This rank's files and the shared one: sizes always, contents (SHA-256) when asked; of the shared one by rank 0 alone, which ends all. */
export async function verifyFiles(
  shardFolder: string,
  manifest: Manifest,
  rank: number,
  contents: boolean,
): Promise<void> {
  const own = manifest.ranks[rank];
  if (!own) {
    throw new ServingError(
      'SHARDS_INVALID',
      `${shardFolder} has ${manifest.worldSize} ranks, not rank ${rank}`,
    );
  }
  // One memory for all pieces: a stream's leave the heap with tens of MB, and its time goes into their pages.
  const piece = contents ? Buffer.allocUnsafeSlow(PIECE_BYTES) : null;
  for (const entry of [own.weights, ...own.segments]) await verifyFile(shardFolder, entry, piece);
  if (manifest.shared) await verifyFile(shardFolder, manifest.shared, rank === 0 ? piece : null);
}

async function verifyFile(shardFolder: string, entry: FileEntry, piece: Uint8Array | null): Promise<void> {
  const file = path.join(shardFolder, entry.path);
  const bytes = statSync(file, { throwIfNoEntry: false })?.size;
  if (bytes !== entry.bytes) {
    throw new ServingError(
      'SHARDS_INVALID',
      `${file}: ${bytes === undefined ? 'missing' : `${bytes} bytes`}, the manifest says ${entry.bytes} bytes`,
    );
  }
  if (piece === null) return;
  const hash = createHash('sha256');
  const handle = await open(file);
  try {
    for (;;) {
      const { bytesRead } = await handle.read(piece, 0, piece.length, null);
      if (bytesRead === 0) break;
      hash.update(piece.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
  const seen = hash.digest('hex');
  if (seen !== entry.sha256) {
    throw new ServingError(
      'SHARDS_INVALID',
      `${file}: SHA-256 is ${seen}, the manifest says ${entry.sha256}: the file was changed or is damaged`,
    );
  }
}
