/**
 * `shardserve cache list | remove MODEL… | prune [--days N]`: the models that were fetched, and what becomes of them.
 *
 * In      arguments; the configuration that the server would have (download_dir, download_cache_mb)
 * Out     lines on standard output; exit code 1 when something that was named could not be removed
 * Limits  a model that a running server has open is never removed
 * Errors  CONFIG_INVALID: of the configuration, or an argument nobody knows
 */
import { parseArgs } from 'node:util';
import { ServingError } from '../proto/errors.js';
import { loadConfig } from './config/load-config.js';
import {
  type CachedModel,
  cachedModels,
  makeRoom,
  pruneCache,
  removeModel,
} from './model-store/cache-contents.js';

const HELP = `Usage: shardserve cache list                what is in the cache of fetched models
       shardserve cache remove MODEL…     remove models, by their name in the list
       shardserve cache prune [--days N]  remove models that nobody asked for in N days (0: all that are not in use), and what was interrupted`;

const DAY_MS = 86_400_000;

export async function main(argv: readonly string[]): Promise<number> {
  const [command = '', ...rest] = argv;
  const { values, positionals } = parseArgs({
    ...{ args: [...rest], allowPositionals: true },
    options: { days: { type: 'string' } },
  });
  const { store } = loadConfig({ argv: ['-m', 'NONE'], env: process.env, cwd: process.cwd() });
  const { downloadFolder, maxCacheBytes } = store;
  switch (command) {
    case 'list': {
      const models = await cachedModels(downloadFolder);
      for (const model of models) console.log(lineOf(model));
      const bytes = models.reduce((sum, model) => sum + model.bytes, 0);
      console.log(`${models.length} models, ${mib(bytes)} of ${mib(maxCacheBytes)} in ${downloadFolder}`);
      return 0;
    }
    case 'remove': {
      if (positionals.length === 0) return usage();
      const outcomes = await Promise.all(positionals.map((name) => removeModel(downloadFolder, name)));
      for (const [index, name] of positionals.entries()) {
        console.log(
          outcomes[index] ? `removed ${name}` : `${name} is not there, or a running server has it open`,
        );
      }
      return outcomes.every(Boolean) ? 0 : 1;
    }
    case 'prune': {
      const days = Number(values.days ?? 0);
      if (!Number.isFinite(days) || days < 0) {
        throw new ServingError(
          'CONFIG_INVALID',
          `--days is ${values.days}; it must be a number of at least 0`,
        );
      }
      const removed = await pruneCache(downloadFolder, Date.now() - days * DAY_MS);
      for (const { bytes, name } of [...removed, ...(await makeRoom(downloadFolder, maxCacheBytes))]) {
        console.log(`removed ${name} (${mib(bytes)})`);
      }
      return 0;
    }
    default:
      return usage();
  }
}

function usage(): number {
  console.log(HELP);
  return 2;
}

const mib = (bytes: number): string => `${Math.ceil(bytes / 1_048_576)} MiB`;

function lineOf({ bytes, isUsed, lastUsedMs, name, urls }: CachedModel): string {
  const when = new Date(lastUsedMs).toISOString().slice(0, 16).replace('T', ' ');
  return [name, mib(bytes), when, isUsed ? 'in use' : 'unused', ...urls].join('  ');
}
