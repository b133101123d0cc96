/**
 * How the compiled tests run: the tests are TypeScript, compiled by tsc with everything else, and run from dist/.
 *
 * Product code (dist/server, dist/shard-worker, dist/partitioner, dist/proto) and packages are loaded by Node itself, not
 * transformed by Vite: the tests see exactly what a user runs, and NODE_V8_COVERAGE sees it under its own path.
 *
 * Groups run one after the other. Of those that start the whole server (e2e, long) most run one file at a time: they wait for a
 * state that another file's load would change, or tell one load from another. The others mostly wait for one process at a time
 * (a server that starts, shards that are written, one stream), so several files share the cores.
 *
 * Unit tests, and those of integration that hold servers and files but no ranks, share their processes, file after file: a process for
 * each would cost more than the tests.
 */
import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

const MAX_WORKERS = 2;
/** Integration tests wait for one process at a time: with one file more than cores two cores are busy. Whole servers keep them so. */
const MAX_WAITING_WORKERS = 3;

/** Files of e2e/ with servers, ports and folders of their own, which hold under any load: nothing in them depends on how fast it is. */
const E2E_PAIRS = [
  ...[
    'agents',
    'articles',
    'bad-model',
    'cancellation',
    'chat-template',
    'classifiers',
    'container-image',
    'dialects',
    'djl-checks',
    'embeddings',
    'fail-fast',
    'four-models',
    'generation-config',
    'http-management',
    'lifecycle',
    'metrics',
    'model-urls',
    'openai-client',
    'packed',
    'real-split',
    'resumed-streams',
    'sagemaker-script',
    'security',
    'torchserve',
    'tune',
    'webgpu',
    'wlm-cycles',
    'wlm-drain',
    'wlm-kill',
  ],
  ...['kernels-off', 'prefix-cache', 'streams'],
].map((name) => `dist/test/e2e/${name}.test.js`);

/** Files of integration/ that hold no ranks in their own process, but for one that reads the coverage of its whole process. */
const SHARED = [
  'dist/test/integration/{api,config,logs-and-metrics,model-store,text,tuner}/!(request-path).test.js',
];

/** Begun first, so that none of them runs alone at the end: vitest knows only how large a file is. */
const LONGEST = [
  'integration/models/families.',
  'integration/models/families-degrees.',
  'integration/text/tokenizer-families.',
  'tidy/tidy.',
  'unit/shard-worker/native-attention.',
  'unit/simulation/pool-simulation.',
  'e2e/generation-config.',
  'e2e/djl-checks.',
  'e2e/lifecycle.',
];

class LongestFirst extends BaseSequencer {
  async sort(files) {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }) => LONGEST.some((part) => moduleId.includes(`/test/${part}`));
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

const inFolders = (...folders) => folders.map((folder) => `dist/test/${folder}/**/*.test.js`);

/** One project a kind of test: `maxWorkers` files at once. */
const project = (name, include, groupOrder, maxWorkers, testTimeout, hookTimeout, more = {}) => ({
  extends: true,
  test: {
    name,
    include,
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
    sequence: { sequencer: LongestFirst },
    setupFiles: ['./test/vitest-setup.mjs'],
    watch: false,
    // A group that is torn down waits for its processes.
    teardownTimeout: 20_000,
    server: {
      deps: {
        external: [
          /\/node_modules\//,
          /\/dist\/(?:server|pipeline|shard-worker|partitioner|calibration|proto)\//,
        ],
      },
    },
    projects: [
      project('unit', inFolders('unit', 'tidy'), 0, MAX_WORKERS, 15_000, 15_000, { isolate: false }),
      project('integration', inFolders('integration'), 1, MAX_WAITING_WORKERS, 60_000, 120_000, {
        exclude: SHARED,
      }),
      project('integration-shared', SHARED, 1, MAX_WAITING_WORKERS, 60_000, 120_000, { isolate: false }),
      project('e2e-pairs', E2E_PAIRS, 2, MAX_WORKERS, 90_000, 180_000),
      project('e2e', inFolders('e2e'), 3, 1, 90_000, 180_000, { exclude: E2E_PAIRS }),
      project('long', inFolders('long'), 4, 1, 1_800_000, 1_800_000),
      // Not of `npm test`: it needs a model that test/real/make_real_model.py fetches.
      project('real', inFolders('real'), 5, 1, 1_800_000, 1_800_000),
    ],
  },
});
