/**
 * What requests see of a model: the same object for its whole life, as every request looks at it several times.
 *
 * In      a registered model
 * Out     ModelStatus, each field of which is what is true when it is read
 */
import type { ModelConfig } from '../config/config.js';
import type { ModelStatus } from '../requests/service.js';
import type { WorkerPool } from './worker-pool.js';

/** What of a registered model is told. */
interface Told {
  readonly name: string;
  readonly version: string | null;
  readonly state: ModelStatus['state'];
  readonly loadedAtStartup: boolean;
  readonly registeredAtMs: number;
  readonly config: ModelConfig;
  /** null: it has none yet. */
  readonly pool: WorkerPool | null;
}

/** With fields of its own: it is copied, compared and written as a plain one. */
export function statusOf(model: Told): ModelStatus {
  return {
    get name() {
      return model.name;
    },
    get version() {
      return model.version;
    },
    get state() {
      return model.state;
    },
    get healthy() {
      return model.state === 'READY' && (model.pool?.healthy ?? false);
    },
    get loadedAtStartup() {
      return model.loadedAtStartup;
    },
    get registeredAtMs() {
      return model.registeredAtMs;
    },
    get contextLength() {
      return model.pool?.contextLength ?? 0;
    },
    get task() {
      return model.pool?.task ?? null;
    },
    get signature() {
      return model.pool?.signature ?? null;
    },
    get answerFormat() {
      return model.pool?.answerFormat ?? null;
    },
    get predictor() {
      return model.config.predictor;
    },
    get labels() {
      return model.pool?.labels ?? null;
    },
    get sessionSeconds() {
      return model.config.statefulSessions ? model.config.sessionSeconds : null;
    },
    get outputFormatter() {
      return formatterOf(model.config);
    },
  };
}

function formatterOf({ asyncMode, outputFormatter, tgiCompat }: ModelConfig): ModelStatus['outputFormatter'] {
  if (tgiCompat) return 'tgi';
  return outputFormatter ?? (asyncMode ? 'async' : null);
}
