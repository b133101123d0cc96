/**
 * The work load manager: every registered model, and the one door for requests.
 *
 * In      model configurations, registrations; GenerateRequests
 * Out     InferenceService for the transports, ManagementService for the management API
 * Limits  MAX_GROUPS groups a model
 * Errors  MODEL_NOT_FOUND, ALREADY_REGISTERED, SHUTTING_DOWN, BAD_REQUEST, and those of registered-model.ts
 */
import { getPriority } from 'node:os';
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { ModelConfig, ModelRegistration } from '../config/config.js';
import type { Engine } from '../engines/engine.js';
import type { ObservePool, SlotFreed } from '../jobs/work-observer.js';
import { CoreYield } from '../machine/core-yield.js';
import { MemoryLedger } from '../machine/memory-ledger.js';
import { canRaisePriority, setProcessPriority } from '../machine/process-priority.js';
import type { GenerateRequest } from '../requests/generate-request.js';
import type { GenerationEvent } from '../requests/job-events.js';
import type {
  LoadingProgress,
  ManagementService,
  PoolDescription,
  RegisterRequest,
  Registration,
  ScaledPool,
  ScaleRequest,
} from '../requests/management.js';
import type { ModelTokens } from '../requests/model-tokens.js';
import type { Accepted, EventsOf, InferenceService, JobRequest, ModelStatus } from '../requests/service.js';
import { LoadingGate } from './loading-gate.js';
import { ModelOrigin, type RegistrationParts } from './model-origin.js';
import { ModelRegistry, type VersionRule } from './model-registry.js';
import { RegisteredModel } from './registered-model.js';
import { registrationOf } from './registration.js';

export interface WorkLoadManagerOptions {
  /** The engine that serves a model of this configuration. @throws ServingError CONFIG_INVALID: there is none */
  engineOf: (config: ModelConfig) => Engine;
  /** Absent: models come from `load` alone. */
  registration?: RegistrationParts;
  logger: Logger;
  /** Running jobs of a model that is unregistered get so long; default 30 s. */
  drainTimeoutMs?: number;
  ledger?: MemoryLedger;
  /** Where several models share the cores, one that is saturated yields them to those that keep up; default: it does not. */
  saturatedModelsYield?: boolean;
  /** What a request without a version gets; default: round robin over the versions. */
  versionRule?: VersionRule;
  /** A model that ran has failed for good. */
  onModelFailed?: (model: string) => void;
  onProgress?: (model: string, progress: LoadingProgress) => void;
  onSlotFreed?: (model: string, event: SlotFreed) => void;
  /** Who watches each pool: the metrics. */
  observe?: ObservePool;
}

/** A model that is there for another. */
export interface AttachedModel {
  /** @throws ServingError */
  submit(request: GenerateRequest, signal: AbortSignal): Promise<Accepted<GenerationEvent>>;
  close(): Promise<void>;
}

const DEFAULT_DRAIN_MS = 30_000;
const MAX_GROUPS = 64;
/** Models that requests register are fetched, split and loaded so many at a time. */
const LOADS_AT_ONCE = 2;
/** A model's that is not loaded. */
const NO_CORE_USE = { backlog: 0, running: 0, pids: [] };
const CPU_DEVICES = ['*', '-1', 'cpu'];

export class WorkLoadManager implements InferenceService, ManagementService {
  readonly #options: WorkLoadManagerOptions;
  readonly #ledger: MemoryLedger;
  readonly #coreYield: CoreYield | null;
  readonly #models: ModelRegistry<RegisteredModel>;
  /** Models that nobody finds any more and that are not gone yet. */
  readonly #attached = new WeakSet<RegisteredModel>();
  readonly #leaving = new Map<RegisteredModel, Promise<void>>();
  readonly #loads = new LoadingGate(LOADS_AT_ONCE);
  /** All models as of a revision of the registry: every request asks for them. */
  #statuses: { revision: number; all: readonly ModelStatus[] } = { revision: -1, all: [] };
  #draining = false;

  constructor(options: WorkLoadManagerOptions) {
    this.#options = options;
    const canServe = ({ pool, state }: RegisteredModel): boolean =>
      state === 'READY' && (pool?.groups.mostGroups ?? 0) > 0;
    this.#models = new ModelRegistry(canServe, options.versionRule);
    this.#ledger = options.ledger ?? new MemoryLedger();
    this.#coreYield = options.saturatedModelsYield
      ? new CoreYield({
          users: () =>
            this.#everyone().map(({ id, pool }) => ({ id, ...(pool?.groups.coreUse ?? NO_CORE_USE) })),
          ownPriority: getPriority(),
          canRaise: canRaisePriority(),
          setPriority: setProcessPriority,
          logger: options.logger,
        })
      : null;
  }

  /** Resolves when the model is ready. @throws ServingError; the model stays registered as FAILED */
  async load(config: ModelConfig): Promise<void> {
    await this.enlist(config).start();
  }

  /**
   * Registers a model of the start as PENDING; `start` loads it. One that fails stays registered as FAILED.
   *
   * @param model a registration: it must be fetched first
   * @throws ServingError ALREADY_REGISTERED, CONFIG_INVALID
   */
  enlist(model: ModelConfig | ModelRegistration): { id: string; start(): Promise<void> } {
    if (!('arguments' in model)) {
      // Triton's latest version takes what names none.
      const weight = model.repository?.isLatest === false ? 0 : undefined;
      return this.#add(ModelOrigin.ofConfig(model, this.#options.registration ?? null), true, weight);
    }
    const { parts } = this.#registrationParts();
    const name = model.name ?? parts.nameOf(model.url);
    return this.#add(ModelOrigin.ofRegistration({ ...model, name }, parts, false), true);
  }

  async register(request: RegisterRequest): Promise<Registration> {
    if (this.#draining) throw shuttingDown();
    this.#loads.checkRoom();
    const { parts } = this.#registrationParts();
    const registration = registrationOf(request, parts);
    this.#models.checkFree(registration.name, registration.version);
    const model = this.#add(originOf(registration, parts), false, request.weight);
    const ready = this.#loads
      .run(() => model.start())
      .catch(async (error: unknown) => {
        const { code, message } = ServingError.from(error);
        this.#options.logger.error(
          { model: model.id, code, err: error },
          `model ${model.id} was not registered`,
        );
        this.#models.remove(model);
        await this.#leave(model, 0);
        throw new ServingError(code, message, { cause: error });
      });
    // Nobody need wait for it.
    ready.catch(() => {});
    return { name: model.name, version: model.version, ready };
  }

  /**
   * Loads a model for another one that asks it, under a name of its own, until it is closed: it is described, scaled and measured as any
   * other, and answers also while the server is being stopped.
   *
   * @throws ServingError ALREADY_REGISTERED, and why it was not loaded: nothing is left of it
   */
  async attach(
    given: ModelConfig | (ModelRegistration & { name: string }),
    signal: AbortSignal,
  ): Promise<AttachedModel> {
    const origin =
      'engine' in given
        ? ModelOrigin.ofConfig(given, this.#options.registration ?? null)
        : ModelOrigin.ofRegistration(given, this.#registrationParts().parts, given.byOperator !== true);
    const model = this.#add(origin, false);
    this.#attached.add(model);
    const close = async (): Promise<void> => {
      this.#models.remove(model);
      await this.#leave(model, 0);
    };
    const onAbort = (): void => void model.close();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await model.start();
    } catch (error) {
      await close();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    return {
      submit: async (request, client) => (await model.submit(request, client)) as Accepted<GenerationEvent>,
      close,
    };
  }

  async unregister(name: string, version: string | null): Promise<void> {
    const models = this.#models.find(name, version);
    for (const model of models) this.#models.remove(model);
    const limitMs = this.#options.drainTimeoutMs ?? DEFAULT_DRAIN_MS;
    await Promise.all(models.map((model) => this.#leave(model, limitMs)));
  }

  async scale(name: string, version: string | null, request: ScaleRequest): Promise<readonly ScaledPool[]> {
    const models = this.#models.find(name, version);
    const { device, maxGroups, minGroups } = request;
    for (const [key, value] of [
      ['min_worker', minGroups],
      ['max_worker', maxGroups],
    ] as const) {
      if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= MAX_GROUPS)) {
        throw new ServingError(
          'BAD_REQUEST',
          `${key} is ${value}; it must be a whole number from 0 to ${MAX_GROUPS}`,
        );
      }
    }
    const pools = models.map((model) => {
      if (model.state !== 'READY' || !model.pool) {
        throw new ServingError('MODEL_NOT_READY', `Model or workflow is not ready: ${model.id}`);
      }
      const own = model.pool.device;
      const isOwn = device === undefined || (own === 'cpu' ? CPU_DEVICES : ['*', own]).includes(device);
      if (!isOwn) {
        throw new ServingError(
          'BAD_REQUEST',
          `device is ${device}, but ${model.id} is computed on ${own} (option.device, load_on_devices); without device its workers there are scaled`,
        );
      }
      return { model, pool: model.pool };
    });
    return pools.map(({ model, pool }) => {
      const max = maxGroups ?? pool.groups.maxGroups;
      // DJLServing's rule: the least is never above the most.
      const min = Math.min(minGroups ?? pool.groups.minGroups, max);
      pool.scale(min, max);
      return { name: model.name, version: model.version, minGroups: min, maxGroups: max };
    });
  }

  async retry(name: string, version: string | null): Promise<void> {
    if (this.#draining) throw shuttingDown();
    await Promise.all(this.#models.find(name, version).map((model) => model.retry()));
  }

  async settled(name: string, version: string | null): Promise<void> {
    await Promise.all(this.#models.find(name, version).map((model) => model.pool?.settled()));
  }

  setDefault(name: string, version: string | null): void {
    this.#models.setDefault(name, version);
  }

  setWeight(name: string, version: string | null, weight: number): number {
    const versions = this.#models.find(name, null);
    const [model] = this.#models.find(name, version);
    if (version === null && versions.length > 1) {
      const known = versions.map((one) => one.version ?? 'none').join(', ');
      throw new ServingError('BAD_REQUEST', `weight needs a version in the path; ${name} has ${known}`);
    }
    this.#models.setWeight(model!, weight);
    const all = versions.reduce((sum, one) => sum + this.#models.weightOf(one), 0);
    return all === 0 ? 1 / versions.length : weight / all;
  }

  describe(name: string, version: string | null): readonly PoolDescription[] {
    return this.#models.find(name, version).map((model) => this.#describe(model));
  }

  list(): readonly PoolDescription[] {
    return this.#sorted().map((model) => this.#describe(model));
  }

  /** @throws ServingError: nothing reached a worker */
  async submit<R extends JobRequest>(request: R, signal: AbortSignal): Promise<Accepted<EventsOf<R>>> {
    if (this.#draining) throw shuttingDown();
    const accepted = await this.#models.pick(request.model, request.version).submit(request, signal);
    // An engine tells of a request what its kind is answered with.
    return accepted as Accepted<EventsOf<R>>;
  }

  tokens(model: string, version: string | null): ModelTokens {
    return this.#models.pick(model, version).tokens();
  }

  chooseVersion(model: string, session: string | null): string | null {
    return this.#models.pick(model, null, session).version;
  }

  models(): readonly ModelStatus[] {
    const { revision } = this.#models;
    if (this.#statuses.revision !== revision)
      this.#statuses = { revision, all: this.#sorted().map(({ status }) => status) };
    return this.#statuses.all;
  }

  /** Takes nothing new and waits until all is answered, or for `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    await Promise.all(this.#everyone().map((model) => model.drain(limitMs)));
  }

  /** Ends what still runs, and every worker. */
  async close(): Promise<void> {
    this.#draining = true;
    await Promise.all(this.#everyone().map((model) => model.close()));
    await Promise.all(this.#leaving.values());
  }

  #describe(model: RegisteredModel): PoolDescription {
    const isAttached = this.#attached.has(model);
    return {
      ...model.describe(),
      isDefault: this.#models.isDefault(model),
      weight: this.#models.weightOf(model),
      ...(isAttached && { isAttached }),
    };
  }

  #everyone(): RegisteredModel[] {
    return [...this.#models.all(), ...this.#leaving.keys()];
  }

  #sorted(): RegisteredModel[] {
    return this.#models
      .all()
      .sort((a, b) => compare(a.name, b.name) || compare(a.version ?? '', b.version ?? ''));
  }

  /** @throws ServingError ALREADY_REGISTERED */
  #add(origin: ModelOrigin, loadedAtStartup: boolean, weight?: number): RegisteredModel {
    if (this.#draining) throw shuttingDown();
    const { engineOf, logger, observe, onModelFailed, onProgress, onSlotFreed } = this.#options;
    const { name, version } = origin.provisional;
    const model: RegisteredModel = new RegisteredModel({
      ...{ origin, loadedAtStartup, engineOf, ledger: this.#ledger },
      hasNeighbours: () => this.#everyone().length > 1,
      otherThreads: () =>
        this.#everyone().reduce((sum, one) => sum + (one === model ? 0 : (one.pool?.groups.threads ?? 0)), 0),
      logger: logger.child(version === null ? { model: name } : { model: name, version }),
      hooks: { onSlotFreed: (event) => onSlotFreed?.(name, event) },
      onProgress: (progress) => onProgress?.(model.id, progress),
      onFailed: () => onModelFailed?.(model.id),
      ...(observe && { observe }),
    });
    this.#models.add(model, weight);
    this.#coreYield?.watch();
    return model;
  }

  #leave(model: RegisteredModel, drainMs: number): Promise<void> {
    const leaving = (async () => {
      if (drainMs > 0) await model.drain(drainMs);
      await model.close();
      this.#leaving.delete(model);
      this.#options.logger.info({ model: model.id }, `model ${model.id} is unregistered`);
    })();
    this.#leaving.set(model, leaving);
    return leaving;
  }

  #registrationParts(): { parts: RegistrationParts } {
    const parts = this.#options.registration;
    if (!parts) throw new Error('this work load manager was made without a model store');
    return { parts };
  }
}

/** An argument that is wrong is the client's mistake, not the operator's. */
function originOf(registration: ModelRegistration, parts: RegistrationParts): ModelOrigin {
  try {
    return ModelOrigin.ofRegistration(registration, parts, true);
  } catch (error) {
    const { code, message } = ServingError.from(error);
    if (code !== 'CONFIG_INVALID') throw error;
    throw new ServingError('BAD_REQUEST', message, { cause: error });
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const shuttingDown = (): ServingError => new ServingError('SHUTTING_DOWN', 'The server is being stopped');
