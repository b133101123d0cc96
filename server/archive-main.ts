/**
 * `shardserve archive`: packs a model for TorchServe's model store, with torch-model-archiver's flags.
 *
 * In      --model-name, --version, --serialized-file, --model-file, --handler, --extra-files, --config-file, --requirements-file,
 *         --runtime, --export-path, --archive-format, --force
 * Out     NAME.mar (zip), NAME.tar.gz or the folder NAME below the export path, with MAR-INF/MANIFEST.json; its path is printed
 * Errors  CONFIG_INVALID: a flag or a file that is not there, or an archive that is there already without --force
 * Source  torch-model-archiver: flags, layout and manifest
 */
import { createReadStream, createWriteStream, existsSync, statSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';
import { ServingError } from '../proto/errors.js';

const FORMATS = ['default', 'zip-store', 'tgz', 'no-archive'] as const;
type Format = (typeof FORMATS)[number];
const EXTENSION: Readonly<Record<Format, string>> = {
  default: '.mar',
  'zip-store': '.mar',
  tgz: '.tar.gz',
  'no-archive': '',
};
const NAME = /^[\w-][\w.-]{0,127}$/;
/** What a handler may be named as without being a file: TorchServe's own. */
const HANDLER_WORD = /^[a-z_]+$/;

export async function main(argv: readonly string[]): Promise<void> {
  const target = await archiveModel(argv);
  process.stdout.write(`${target}\n`);
}

/** @returns the path of what was written. @throws ServingError CONFIG_INVALID */
export async function archiveModel(argv: readonly string[]): Promise<string> {
  const given = flagsOf(argv);
  const { format, name } = given;
  const target = path.join(given.exportPath, `${name}${EXTENSION[format]}`);
  if (existsSync(target) && !given.force) throw invalid(`${target} is there already; --force replaces it`);
  await mkdir(given.exportPath, { recursive: true });
  // Beside the target, so that it appears whole or not at all.
  const work = await mkdtemp(path.join(given.exportPath, '.archive-'));
  try {
    const content = path.join(work, 'content');
    await mkdir(path.join(content, 'MAR-INF'), { recursive: true });
    for (const file of given.files) {
      const to = path.join(content, path.basename(file));
      if (existsSync(to)) throw invalid(`two files are called ${path.basename(file)}`);
      await cp(file, to, { recursive: true });
    }
    await writeFile(path.join(content, 'MAR-INF', 'MANIFEST.json'), JSON.stringify(given.manifest, null, 2));
    const packed = path.join(work, 'packed');
    if (format === 'no-archive') await rename(content, packed);
    else if (format === 'tgz') await writeTar(content, packed);
    else await writeZip(content, packed, format === 'default');
    if (given.force) await rm(target, { recursive: true, force: true });
    await rename(packed, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}

function flagsOf(argv: readonly string[]) {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...argv],
    options: {
      'model-name': text,
      version: { ...text, short: 'v', default: '1.0' },
      'serialized-file': text,
      'model-file': text,
      handler: text,
      'extra-files': text,
      runtime: { ...text, default: 'node' },
      'export-path': { ...text, default: process.cwd() },
      'archive-format': { ...text, default: 'default' },
      force: { type: 'boolean', short: 'f', default: false },
      'requirements-file': { ...text, short: 'r' },
      'config-file': { ...text, short: 'c' },
    },
  });
  const name = values['model-name'] ?? '';
  if (!NAME.test(name)) throw invalid('--model-name may hold letters, digits, _, . and - only, at most 128');
  const format = values['archive-format'] as Format;
  if (!FORMATS.includes(format))
    throw invalid(`--archive-format is ${format}; it must be one of ${FORMATS.join(', ')}`);
  const { handler = '' } = values;
  const [handlerFile = '', exported] = handler.split(':');
  const isWord = handler === '' || HANDLER_WORD.test(handler);
  const config = values['config-file'];
  if (config !== undefined && path.basename(config) !== 'model-config.yaml')
    throw invalid(`--config-file must be called model-config.yaml, not ${path.basename(config)}`);
  const files = [
    values['serialized-file'],
    values['model-file'],
    isWord ? undefined : handlerFile,
    values['requirements-file'],
    config,
    ...(values['extra-files']?.split(',').filter((one) => one !== '') ?? []),
  ].filter((file): file is string => file !== undefined);
  if (files.length === 0) throw invalid('there is nothing to archive: give --serialized-file or --handler');
  for (const file of files) {
    if (!existsSync(file)) throw invalid(`there is no file ${file}`);
  }
  const own = (file: string | undefined): string | undefined => file && path.basename(file);
  const model = {
    modelName: name,
    modelVersion: values.version,
    serializedFile: own(values['serialized-file']),
    modelFile: own(values['model-file']),
    handler: isWord ? handler || undefined : [path.basename(handlerFile), exported].filter(Boolean).join(':'),
    requirementsFile: own(values['requirements-file']),
    configFile: own(config),
  };
  const manifest = { createdOn: createdOn(), runtime: values.runtime, model, archiverVersion: 'shardserve' };
  return {
    name,
    format,
    files,
    manifest,
    force: values.force,
    exportPath: path.resolve(values['export-path']),
  };
}

/** As torch-model-archiver writes it. */
function createdOn(): string {
  const [, year, month, day, time] = /^(\d+)-(\d+)-(\d+)T([\d:]+)/.exec(new Date().toISOString())!;
  return `${day}/${month}/${year} ${time}`;
}

/** Relative paths of all files below, sorted: the same content is the same archive. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}

async function writeZip(folder: string, target: string, compress: boolean): Promise<void> {
  const zip = new ZipFile();
  for (const file of await filesBelow(folder)) zip.addFile(path.join(folder, file), file, { compress });
  zip.end();
  await pipeline(zip.outputStream, createWriteStream(target));
}

async function writeTar(folder: string, target: string): Promise<void> {
  const archive = pack();
  const written = pipeline(archive, createGzip(), createWriteStream(target));
  for (const name of await filesBelow(folder)) {
    const file = path.join(folder, name);
    const entry = archive.entry({ name, size: statSync(file).size });
    await pipeline(createReadStream(file), entry);
  }
  archive.finalize();
  await written;
}

const invalid = (message: string): ServingError => new ServingError('CONFIG_INVALID', message);
