/**
 * The manifest of a shard folder, checked.
 *
 * In      shard folder; the hash of a manifest that the process which started this one has checked
 * Out     the manifest
 * How     the text that was checked is not checked again: the schema and what checks by it are 250 modules, 6 MB of every rank
 * Errors  SHARDS_INVALID naming the file, and what was expected and seen
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../proto/errors.js';
import { lateImport } from '../proto/late-import.js';
import type { Manifest } from '../proto/manifest.js';

/** @param checkedSha256 absent: it is checked here */
export async function readManifest(shardFolder: string, checkedSha256?: string): Promise<Manifest> {
  const file = path.join(shardFolder, 'manifest.json');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ServingError('SHARDS_INVALID', `${file} cannot be read`, { cause });
  }
  if (createHash('sha256').update(text).digest('hex') === checkedSha256) return JSON.parse(text) as Manifest;
  const { parseManifest } = await lateImport(() => import('../proto/manifest.js'));
  return parseManifest(text, file);
}
