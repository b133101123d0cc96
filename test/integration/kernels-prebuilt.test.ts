/** The committed libraries of shard-worker/kernels are built from the committed sources, and need and show no more than they should. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { ROOT } from '../tidy/repository.js';

const FOLDER = path.join(ROOT, 'shard-worker', 'kernels');
const PREBUILT = path.join(FOLDER, 'prebuilt');
const libraries = readdirSync(PREBUILT)
  .filter((name) => name.startsWith('linux-'))
  .map((name) => path.join(PREBUILT, name, 'libshardserve-kernels.so'));

it('were built from the sources that are here', async () => {
  const { sourceHash } = (await import(pathToFileURL(path.join(FOLDER, 'build.mjs')).href)) as {
    sourceHash: () => string;
  };
  const built = readFileSync(path.join(PREBUILT, 'sources.sha256'), 'utf8').trim();
  expect(built, 'run shard-worker/kernels/build.mjs (README.md there)').toBe(sourceHash());
});

it.each(libraries)('%s is at most 1 MB', (file) => {
  expect(statSync(file).size).toBeLessThanOrEqual(1_000_000);
});

it('SHARDSERVE_KERNELS=off is as if there were none', () => {
  const before = process.env.SHARDSERVE_KERNELS;
  process.env.SHARDSERVE_KERNELS = 'off';
  try {
    expect(kernelLibrary()).toBeNull();
  } finally {
    if (before === undefined) delete process.env.SHARDSERVE_KERNELS;
    else process.env.SHARDSERVE_KERNELS = before;
  }
});
