/**
 * The files of one rank, checked before use: a shard that differs from its manifest is found at load, not in the text.
 *
 * In      shard folder, its manifest, rank
 * Out     graphs; nothing where all is as the manifest says
 * Errors  SHARDS_INVALID naming the file, and what was expected and seen
 */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../proto/errors.js';
import type { FileEntry, Manifest } from '../proto/manifest.js';

/** Bytes of a graph of one rank. */
export function readSegment(shardFolder: string, rank: number, segment: string): Uint8Array {
  return readFileSync(path.join(shardFolder, `rank-${rank}`, `${segment}.onnx`));
}

/** This rank's files and the shared one: sizes always, contents (SHA-256) when asked. */
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
  const entries = [own.weights, ...own.segments, ...(manifest.shared ? [manifest.shared] : [])];
  for (const entry of entries) await verifyFile(shardFolder, entry, contents);
}

async function verifyFile(shardFolder: string, entry: FileEntry, contents: boolean): Promise<void> {
  const file = path.join(shardFolder, entry.path);
  const bytes = statSync(file, { throwIfNoEntry: false })?.size;
  if (bytes !== entry.bytes) {
    throw new ServingError(
      'SHARDS_INVALID',
      `${file}: ${bytes === undefined ? 'missing' : `${bytes} bytes`}, the manifest says ${entry.bytes} bytes`,
    );
  }
  if (!contents) return;
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 4 * 1024 * 1024 })) hash.update(chunk);
  const seen = hash.digest('hex');
  if (seen !== entry.sha256) {
    throw new ServingError(
      'SHARDS_INVALID',
      `${file}: SHA-256 is ${seen}, the manifest says ${entry.sha256}: the file was changed or is damaged`,
    );
  }
}
