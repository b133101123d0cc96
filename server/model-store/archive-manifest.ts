/**
 * What a model archive of TorchServe says of itself, before it is unpacked: MAR-INF/MANIFEST.json and model-config.yaml.
 *
 * In      a folder, or an archive (zip, tar, tar.gz)
 * Out     name, version, runtime, least workers; all null where the files do not say, or are not there
 * Limits  MAX_CONFIG_FILE_BYTES a file; MAX_ENTRIES are looked at
 * Errors  CHECKPOINT_INVALID: a manifest that is no JSON, an archive that cannot be read
 */

import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { parse } from 'yaml';
import { openPromise } from 'yauzl';
import { ServingError } from '../../proto/errors.js';
import { isObject } from '../../proto/is-object.js';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import { ARCHIVE_HEAD_BYTES, archiveKind } from './archive-kind.js';

const MAX_ENTRIES = 10_000;
const MANIFEST = 'MAR-INF/MANIFEST.json';
const CONFIG = 'model-config.yaml';
const MAX_ALIASES = 100;

export interface ArchiveManifest {
  modelName: string | null;
  modelVersion: string | null;
  runtime: string | null;
  /** What model-config.yaml says. */
  minWorkers: number | null;
}

/** @throws ServingError CHECKPOINT_INVALID */
export async function archiveManifest(place: string): Promise<ArchiveManifest> {
  let texts: ReadonlyMap<string, string>;
  try {
    texts = (await stat(place)).isDirectory() ? await ofFolder(place) : await ofArchive(place);
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    throw invalid(`${path.basename(place)} cannot be read: ${(cause as Error).message}`);
  }
  const manifest = parsed(texts.get(MANIFEST), MANIFEST, (text) => JSON.parse(text) as unknown);
  const config = parsed(texts.get(CONFIG), CONFIG, (text): unknown =>
    parse(text, { schema: 'core', maxAliasCount: MAX_ALIASES }),
  );
  const model = isObject(manifest.model) ? manifest.model : {};
  const { minWorkers } = config;
  return {
    modelName: textOf(model.modelName),
    modelVersion: textOf(model.modelVersion),
    runtime: textOf(manifest.runtime),
    minWorkers: typeof minWorkers === 'number' && Number.isInteger(minWorkers) ? minWorkers : null,
  };
}

async function ofFolder(folder: string): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const name of [MANIFEST, CONFIG]) {
    const file = path.join(folder, name);
    const size = await stat(file).then(
      (found) => found.size,
      () => null,
    );
    if (size === null) continue;
    checkSize(name, size);
    texts.set(name, await readFile(file, 'utf8'));
  }
  return texts;
}

async function ofArchive(file: string): Promise<Map<string, string>> {
  const handle = await open(file, 'r');
  const head = Buffer.alloc(ARCHIVE_HEAD_BYTES);
  try {
    await handle.read(head, 0, head.length, 0);
  } finally {
    await handle.close();
  }
  const kind = archiveKind(head);
  if (kind === 'zip') return ofZip(file);
  if (kind !== null) return ofTar(file, kind === 'gzip');
  throw invalid(`${path.basename(file)} is no archive`);
}

async function ofZip(file: string): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const zip = await openPromise(file, { validateEntrySizes: true, autoClose: false });
  try {
    let left = MAX_ENTRIES;
    for await (const entry of zip.eachEntry()) {
      if (left-- === 0) break;
      const name = entry.fileName.replace(/^\.\//, '');
      if (name !== MANIFEST && name !== CONFIG) continue;
      checkSize(name, entry.uncompressedSize);
      texts.set(name, await textOfStream(await zip.openReadStreamPromise(entry), name));
    }
  } finally {
    zip.close();
  }
  return texts;
}

async function ofTar(file: string, isGzip: boolean): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const source = createReadStream(file);
  const unpacked = isGzip ? source.pipe(createGunzip()) : source;
  source.on('error', (error) => unpacked.destroy(error));
  const entries = unpacked.pipe(extract());
  unpacked.on('error', (error: Error) => entries.destroy(error));
  let left = MAX_ENTRIES;
  try {
    for await (const entry of entries) {
      const name = entry.header.name.replace(/^\.\//, '');
      if (name === MANIFEST || name === CONFIG) {
        checkSize(name, entry.header.size ?? 0);
        texts.set(name, await textOfStream(entry as AsyncIterable<Buffer>, name));
      } else entry.resume();
      if (texts.size === 2 || left-- === 0) break;
    }
  } finally {
    source.destroy();
  }
  return texts;
}

async function textOfStream(stream: AsyncIterable<Buffer>, name: string): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of stream) {
    size += piece.length;
    checkSize(name, size);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function parsed(
  text: string | undefined,
  name: string,
  parse: (text: string) => unknown,
): Record<string, unknown> {
  if (text === undefined) return {};
  try {
    const value = parse(text);
    return isObject(value) ? value : {};
  } catch (error) {
    throw invalid(`${name} cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
}

function checkSize(name: string, size: number): void {
  if (size > MAX_CONFIG_FILE_BYTES)
    throw invalid(`${name} has ${size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
}

const textOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
const invalid = (message: string): ServingError => new ServingError('CHECKPOINT_INVALID', message);
