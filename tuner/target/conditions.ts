/**
 * What a figure depends on besides its configuration: host, build, models, load. The header of a journal.
 *
 * In      folders of models, what is asked of them
 * Out     readable words with digests
 * Limits  a file above WHOLE_BYTES is digested by its size and both its ends
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JournalHeader } from '../journal/journal.js';
import type { TunePlan } from '../plan/tune-plan.js';
import { gpuNames } from './process-readings.js';

const DIST = fileURLToPath(new URL('../..', import.meta.url));
const ROOT = path.join(DIST, '..');
const WHOLE_BYTES = 16 * 2 ** 20;
const END_BYTES = 2 ** 20;
const GIB = 2 ** 30;
const MAX_DEPTH = 4;

export function conditions(plan: TunePlan): JournalHeader {
  const { load, models, server } = plan;
  const asked = {
    load,
    models: models.map(({ name, properties, request }) => ({ name, properties, request })),
  };
  return {
    host: hostWords(),
    build: server.url === null ? buildDigest() : `server at ${server.url}`,
    ...Object.fromEntries(
      models.map(({ folder, name }) => [
        `model ${name}`,
        folder === null ? 'of the server' : folderDigest(folder),
      ]),
    ),
    load: digest(JSON.stringify(asked)),
    environment: digest(JSON.stringify([server.environment, settingsOfEnvironment()])),
  };
}

export function hostWords(): string {
  const gpus = gpuNames();
  const memory = `${Math.round(totalmem() / GIB)} GiB`;
  const cores = `${availableParallelism()} cores`;
  return [cpus()[0]?.model.trim() ?? 'unknown processor', cores, memory, `Linux ${release()}`, ...gpus].join(
    ', ',
  );
}

export const gpuDescription = (): string | null => {
  const [first] = gpuNames();
  return first === undefined ? null : `${gpuNames().length} x ${first.split(',')[0]}`;
};

/** What the server runs: its compiled programs, kernels, the root's properties. */
function buildDigest(): string {
  const hash = createHash('sha256');
  for (const top of ['server', 'shard-worker', 'partitioner', 'calibration', 'proto']) {
    addFolder(hash, path.join(DIST, top), MAX_DEPTH, (name) => name.endsWith('.js'));
  }
  addFolder(hash, path.join(ROOT, 'shard-worker', 'kernels', 'prebuilt'), 1, () => true);
  const properties = path.join(ROOT, 'serving.properties');
  if (existsSync(properties)) hash.update(readFileSync(properties));
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  return `${version} ${hash.digest('hex').slice(0, 16)}, Node ${process.versions.node}`;
}

export function folderDigest(folder: string): string {
  const hash = createHash('sha256');
  addFolder(hash, folder, MAX_DEPTH, () => true);
  return hash.digest('hex').slice(0, 16);
}

function addFolder(hash: Hash, folder: string, depth: number, wanted: (name: string) => boolean): void {
  if (depth < 0 || !existsSync(folder)) return;
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) addFolder(hash, file, depth - 1, wanted);
    else if (wanted(entry.name)) addFile(hash, file, entry.name);
  }
}

function addFile(hash: Hash, file: string, name: string): void {
  const { size } = statSync(file);
  hash.update(`${name}\0${size}\0`);
  if (size <= WHOLE_BYTES) {
    hash.update(readFileSync(file));
    return;
  }
  const fd = openSync(file, 'r');
  const end = Buffer.alloc(END_BYTES);
  for (const at of [0, size - END_BYTES]) hash.update(end.subarray(0, readSync(fd, end, 0, END_BYTES, at)));
  closeSync(fd);
}

/** Those of this process's environment that the server takes as keys. */
function settingsOfEnvironment(): [string, string][] {
  return Object.entries(process.env)
    .filter((entry): entry is [string, string] => /^(?:SERVING|OPTION)_|^TENSOR_PARALLEL/.test(entry[0]))
    .sort();
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);
