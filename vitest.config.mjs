/**
 * How the compiled tests run: the tests are TypeScript, compiled by tsc with everything else, and run from dist/.
 *
 * Product code (dist/server, dist/shard-worker, dist/partitioner, dist/proto) and packages are loaded by Node itself, not
 * transformed by Vite: the tests see exactly what a user runs, and NODE_V8_COVERAGE sees it under its own path.
 *
 * Groups run one after the other. Those that start the whole server (e2e, long) run one file at a time, since two groups of
 * shard workers on a small machine would only wait for each other.
 *
 * Unit tests share their processes, file after file: a process for each would cost more than the tests.
 */
import { defineConfig } from 'vitest/config';

const MAX_WORKERS = 2;

/** One project a kind of test: `folders` under dist/test, `workers` files at once. */
const project = (name, folders, groupOrder, maxWorkers, testTimeout, hookTimeout, more = {}) => ({
  extends: true,
  test: {
    name,
    include: folders.map((folder) => `dist/test/${folder}/**/*.test.js`),
    ...more,
    maxWorkers,
    fileParallelism: maxWorkers > 1,
    testTimeout,
    hookTimeout,
    sequence: { groupOrder },
  },
});

export default defineConfig({
  test: {
    pool: 'forks',
    setupFiles: ['./test/vitest-setup.mjs'],
    watch: false,
    // A group that is torn down waits for its processes.
    teardownTimeout: 20_000,
    server: {
      deps: { external: [/\/node_modules\//, /\/dist\/(?:server|shard-worker|partitioner|proto)\//] },
    },
    projects: [
      project('unit', ['unit', 'tidy'], 0, MAX_WORKERS, 15_000, 15_000, { isolate: false }),
      project('integration', ['integration'], 1, MAX_WORKERS, 60_000, 120_000),
      project('e2e', ['e2e'], 2, 1, 90_000, 180_000),
      project('long', ['long'], 3, 1, 1_800_000, 1_800_000),
    ],
  },
});
