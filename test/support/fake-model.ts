/** A work load manager over workers without a model (fake-worker.ts): configuration, manifest, and how to make one. */
import { fileURLToPath } from 'node:url';
import type { Manifest } from '../../proto/manifest.js';
import type { ModelConfig } from '../../server/config/config.js';
import type { Engine } from '../../server/engines/engine.js';
import { LlmModel } from '../../server/engines/llm/llm-engine.js';
import type { LlmFiles } from '../../server/engines/llm/prepare-model.js';
import type { SlotFreed } from '../../server/jobs/work-observer.js';
import { LocalLauncher } from '../../server/machine/ranks/local-launcher.js';
import type { GenerateRequest } from '../../server/requests/generate-request.js';
import type { RegistrationParts } from '../../server/work-load-manager/model-origin.js';
import {
  WorkLoadManager,
  type WorkLoadManagerOptions,
} from '../../server/work-load-manager/work-load-manager.js';
import { FAKE_TEXTS, makeRequest } from '../fixtures/generate-requests.js';
import { LogRecorder } from '../fixtures/log-recorder.js';
import { FAKE_VOCAB } from './fake-rank.js';
import type { FakeWorkerPlan } from './fake-worker.js';

export const FAKE_WORKER = fileURLToPath(new URL('./fake-worker.js', import.meta.url));

export const FAKE_MANIFEST = {
  worldSize: 2,
  weightFormat: { dtype: 'fp32', layout: 'panels' },
  model: { contextLength: 1000, vocabSize: FAKE_VOCAB, numLayers: 1, endIds: [], generationDefaults: {} },
  perRank: { numKvHeads: 1, headDim: 8 },
  attend: { keysIn: 'slot', variants: [] },
  buffers: [],
  shared: null,
  ranks: [{ weights: { bytes: 0 } }, { weights: { bytes: 0 } }],
} as unknown as Manifest;

export const FAKE_CONFIG: ModelConfig = {
  name: 'toy',
  version: null,
  url: '/none',
  folder: '/none',
  checkpointUrl: null,
  engine: 'llm',
  tensorParallelDegree: 2,
  device: 'auto',
  dtype: 'auto',
  blockSize: null,
  symmetric: true,
  scales: 'search',
  eightBit: null,
  reproducibleDegree: 4,
  activationBits: null,
  batching: 'rolling',
  maxRollingBatchSize: 2,
  batchSize: 1,
  maxBatchDelayMs: 10,
  jobQueueSize: 10,
  minGroups: 1,
  maxGroups: 1,
  maxIdleSeconds: 60,
  scaleFromZero: false,
  requiredMemoryMb: 0,
  reservedMemoryMb: 0,
  maxModelLen: null,
  prefillChunkMs: null,
  maxTokenGapMs: 500,
  scheduling: 'balanced',
  promptOrder: 'shortest',
  prefixCaching: true,
  reportCachedTokens: true,
  kvCacheMemoryMb: 10,
  threadsPerRank: 1,
  modelFile: null,
  entryPoint: null,
  predictor: null,
  boundModel: null,
  handlerMemoryMb: 1024,
  onnxMemoryMb: 0,
  trustRemoteCode: false,
  padInputs: null,
  interOpThreads: 1,
  executionMode: 'SEQUENTIAL',
  optLevel: 'ALL_OPT',
  modelLoadingTimeoutSeconds: 20,
  predictTimeoutSeconds: 20,
  stepTimeoutSeconds: 20,
  retryThreshold: 3,
  retryCoolDownSeconds: 0,
  requestRetries: 0,
  requestTimeoutSeconds: 3600,
  verifyChecksums: false,
  logRequestMetric: false,
  metricsAggregation: 1000,
  collective: 'zmq',
  collectiveCompression: 'none',
  kvCacheDtype: 'auto',
  preemptionMode: 'recompute',
  swapSpaceGb: 4,
  outputFormatter: null,
  task: null,
  truncateTexts: null,
  speculation: null,
  normalize: true,
  chatTemplate: null,
  toolCallParser: 'auto',
  fillDevices: false,
  gpus: null,
  gpuMemoryShare: 0.9,
  reasoningParser: 'auto',
  tgiCompat: false,
  asyncMode: false,
  statefulSessions: true,
  sessionSeconds: 1200,
};

/** A model of one rank: half the processes. */
export const ONE_RANK_MANIFEST = {
  ...FAKE_MANIFEST,
  worldSize: 1,
  ranks: FAKE_MANIFEST.ranks.slice(0, 1),
} as Manifest;

export interface FakeManager {
  manager: WorkLoadManager;
  log: LogRecorder;
  freed: SlotFreed[];
}

const FAKE_ENCODER: LlmFiles['encoder'] = {
  encode: async (prompt) => (prompt.kind === 'ids' ? prompt.ids : []),
  close: async () => {},
};

/** Models are there at once; every worker keeps to `plan`. */
export const fakeEngine = (
  manifest: Manifest,
  encoder = FAKE_ENCODER,
  plan: FakeWorkerPlan = {},
): Engine => ({
  prepare: async (config) =>
    new LlmModel(
      config,
      { shardFolder: JSON.stringify(plan), manifest, texts: FAKE_TEXTS, encoder },
      { launcher: new LocalLauncher(FAKE_WORKER) },
    ),
});

/** Models are prepared at once; every worker keeps to `plan`. */
export function makeFakeManager(
  plan: FakeWorkerPlan = {},
  options: Partial<WorkLoadManagerOptions> & { manifest?: Manifest } = {},
): FakeManager {
  const log = new LogRecorder();
  const freed: SlotFreed[] = [];
  const { manifest = FAKE_MANIFEST, ...more } = options;
  const manager = new WorkLoadManager({
    engineOf: () => fakeEngine(manifest, FAKE_ENCODER, plan),
    logger: log.logger,
    onSlotFreed: (_model, event) => freed.push(event),
    ...more,
  });
  return { manager, log, freed };
}

/** A model store where everything is there: `file:///NAME`; whatever is asked for is written down. */
export function fakeStore(
  config: Partial<ModelConfig> = {},
): RegistrationParts & { fetched: string[]; released: string[] } {
  const fetched: string[] = [];
  const released: string[] = [];
  return {
    fetched,
    released,
    async fetch(url) {
      fetched.push(url);
      return { folder: url, owned: true };
    },
    async release({ folder }) {
      released.push(folder);
    },
    nameOf: (url) => url.replace(/^.*\//, ''),
    configure: (registration, folder) => ({
      ...FAKE_CONFIG,
      ...config,
      name: registration.name ?? '',
      version: registration.version,
      url: registration.url,
      folder: folder ?? '',
    }),
  };
}

export const submitTo = (
  manager: WorkLoadManager,
  fields: Partial<GenerateRequest> = {},
  signal: AbortSignal = new AbortController().signal,
) => manager.submit(makeRequest(fields), signal);

export const promptIds = (...ids: number[]) => ({ prompt: { kind: 'ids' as const, ids } });
