/**
 * TorchServe's management of models, whoever asks: over HTTP or gRPC.
 *
 * In      parameters as TorchServe names them
 * Out     a status of HTTP and a sentence in TorchServe's words; descriptions
 * Limits  a URL is a file of the model store, or fits allowed_urls; a name's first version is its default one
 * Errors  ServingError, mostly TorchServeRefusal
 * Source  TorchServe's management API
 *
 * A worker here is a group of shard workers, or a handler's process. Files of the host outside the model store need
 * registration_folders, too.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../../../proto/errors.js';
import type { ManagementService, PoolDescription } from '../../../requests/management.js';
import { describedModel } from './describe-body.js';
import { modelNotFound, TorchServeRefusal, versionNotFound } from './torchserve-errors.js';
import type { ModelRecord, TorchServeParts } from './torchserve-parts.js';

/** For an archive that says none. */
export const FIRST_VERSION = '1.0';
const RUNTIMES = ['python', 'python3', 'LSP'];
/** Handlers of TorchServe's own, which are named without a file. */
const OWN_HANDLER = /^[a-z_]+$/;
const DEFAULT_LIMIT = 100;
const SCHEME = /^[a-z][a-z0-9+.-]*:\/\//i;

export interface RegisterParameters {
  url?: string;
  model_name?: string;
  handler?: string;
  runtime?: string;
  batch_size?: number;
  max_batch_delay?: number;
  initial_workers?: number;
  synchronous?: boolean;
  response_timeout?: number;
  startup_timeout?: number;
}

export interface ScaleParameters {
  min_worker?: number;
  max_worker?: number;
  synchronous?: boolean;
}

export interface Told {
  status: number;
  message: string;
}

const UPDATING: Told = { status: 202, message: 'Processing worker updates...' };

export class TorchServeModels {
  readonly #management: ManagementService;
  readonly parts: TorchServeParts;
  readonly #records = new Map<string, ModelRecord>();

  constructor(management: ManagementService, parts: TorchServeParts) {
    this.#management = management;
    this.parts = parts;
  }

  /** @throws ServingError */
  async register(given: RegisterParameters): Promise<Told> {
    const { url, runtime } = given;
    if (url === undefined || url === '') throw new ServingError('BAD_REQUEST', 'Parameter url is required.');
    if (runtime !== undefined && !RUNTIMES.includes(runtime))
      throw new ServingError('BAD_REQUEST', `Invalid RuntimeType value: ${runtime.slice(0, 40)}`);
    const place = torchServePlace(url, this.parts.modelStore, this.parts.config.allowedUrls, 'Model');
    const manifest = await this.parts.manifestOf(place);
    const { minWorkers, modelName, modelVersion } = manifest;
    const version = modelVersion ?? FIRST_VERSION;
    const own = minWorkers === null ? this.parts.config.defaultWorkers : null;
    const workers = given.initial_workers ?? own;
    const name = given.model_name ?? modelName ?? nameOf(url);
    const registration = await this.#management
      .register({
        ...{ url: place, name, version },
        ...(workers !== null && { minGroups: workers, maxGroups: workers }),
        ...whenGiven('batchSize', given.batch_size),
        ...whenGiven('maxBatchDelayMs', given.max_batch_delay),
        ...whenGiven('stepTimeoutSeconds', given.response_timeout),
        ...whenGiven('loadingTimeoutSeconds', given.startup_timeout),
        ...whenGiven('entryPoint', entryPointOf(given.handler)),
      })
      .catch((error: unknown) => {
        if (ServingError.from(error).code !== 'ALREADY_REGISTERED') throw error;
        const sentence = `Model version ${version} is already registered for model ${name}`;
        throw new ServingError('ALREADY_REGISTERED', sentence, { cause: error });
      });
    this.#records.set(idOf(name, version), { url, runtime: runtime ?? manifest.runtime ?? 'python' });
    const count = workers ?? minWorkers ?? 0;
    const ready = registration.ready.then(
      () => this.parts.onChange(),
      (error: unknown) => {
        this.#records.delete(idOf(name, version));
        throw startFailure(name, version, count, error);
      },
    );
    if (count > 0 && given.synchronous === false) {
      // What it fails with, the log has.
      ready.catch(() => undefined);
      return UPDATING;
    }
    await ready;
    const registered = `Model "${name}" Version: ${version} registered with ${count} initial workers`;
    const hint = count === 0 ? '. Use scale workers API to add workers for the model.' : '';
    return { status: 200, message: `${registered}${hint}` };
  }

  /** @param version null: the default one. @throws ServingError */
  async scale(name: string, version: string | null, given: ScaleParameters): Promise<Told> {
    const { min_worker: min = 1, synchronous = false } = given;
    const max = given.max_worker ?? min;
    if (max < min) throw new ServingError('BAD_REQUEST', 'max_worker cannot be less than min_worker.');
    const pool = this.find(name, version);
    await this.#management.scale(name, pool.version, { minGroups: min, maxGroups: max });
    this.parts.onChange();
    const settled = this.#management.settled(name, pool.version);
    if (!synchronous) {
      settled.catch(() => undefined);
      return UPDATING;
    }
    await settled.catch((error: unknown) => {
      throw startFailure(name, pool.version ?? FIRST_VERSION, min, error);
    });
    const of = version === null ? name : `${name}, version: ${version}`;
    return { status: 200, message: `Workers scaled to ${min} for model: ${of}` };
  }

  /** @throws ServingError */
  async unregister(name: string, version: string | null): Promise<Told> {
    const pool = this.find(name, version);
    if (pool.isDefault === true && this.#versionsOf(name).length > 1) {
      const sentence = `Cannot remove default version for model ${name}`;
      throw new TorchServeRefusal('BAD_REQUEST', 'InvalidModelVersionException', 403, sentence);
    }
    await this.#management.unregister(name, pool.version);
    this.#records.delete(idOf(name, pool.version));
    this.parts.onChange();
    return { status: 200, message: `Model "${name}" unregistered` };
  }

  /** @throws ServingError */
  setDefault(name: string, version: string): Told {
    const versions = this.#versionsOf(name);
    if (versions.length === 0) throw modelNotFound(name);
    if (!versions.some((pool) => pool.version === version)) {
      const sentence = `Model version ${version} does not exist for model ${name}`;
      throw new TorchServeRefusal('MODEL_NOT_FOUND', 'ModelVersionNotFoundException', 404, sentence);
    }
    this.#management.setDefault(name, version);
    this.parts.onChange();
    const message = `Default version successfully updated for model "${name}" to "${version}"`;
    return { status: 200, message };
  }

  /** @param version null: the default one; `all`: every one. @throws ServingError */
  describe(name: string, version: string | null): object[] {
    const pools = version === 'all' ? this.#versionsOf(name) : [this.find(name, version)];
    if (pools.length === 0) throw modelNotFound(name);
    return pools.map((pool) => describedModel(pool, this.recordOf(pool), this.parts));
  }

  /** Default versions, by pages. */
  list(limit: number | null, token: number | null) {
    const all = this.#management.list().filter((pool) => pool.isDefault === true && !pool.isAttached);
    const size = limit !== null && limit > 0 && limit <= DEFAULT_LIMIT ? limit : DEFAULT_LIMIT;
    const start = Math.max(0, token ?? 0);
    const items = all.slice(start, start + size);
    return {
      ...(start + size < all.length && { nextPageToken: String(start + size) }),
      models: items.map((pool) => ({ modelName: pool.name, modelUrl: this.recordOf(pool).url })),
    };
  }

  /** What a model that was loaded at start was named as. */
  remember(name: string, version: string, record: ModelRecord): void {
    this.#records.set(idOf(name, version), record);
  }

  recordOf({ name, url, version }: PoolDescription): ModelRecord {
    return this.#records.get(idOf(name, version)) ?? { url: path.basename(url), runtime: 'python' };
  }

  /** @param version null: the default one. @throws ServingError */
  find(name: string, version: string | null): PoolDescription {
    const versions = this.#versionsOf(name);
    if (versions.length === 0) throw modelNotFound(name);
    const found = versions.find((pool) =>
      version === null ? pool.isDefault === true : pool.version === version,
    );
    if (found) return found;
    if (version !== null) throw versionNotFound(name, version);
    return versions[0]!;
  }

  #versionsOf(name: string): PoolDescription[] {
    return this.#management.list().filter((pool) => pool.name === name);
  }
}

/** A file of the store, or a URL that the operator allows. @throws ServingError */
export function torchServePlace(
  url: string,
  store: string,
  allowedUrls: readonly string[],
  what: 'Model' | 'Workflow',
): string {
  const refusal = (sentence: string): ServingError =>
    new TorchServeRefusal('MODEL_NOT_FOUND', `${what}NotFoundException`, 404, sentence);
  if (url.includes('..')) throw refusal(`Relative path is not allowed in url: ${shown(url)}`);
  if (SCHEME.test(url)) {
    if (!allowedUrls.some((allowed) => new RegExp(`^(?:${allowed})$`).test(url)))
      throw refusal(`Given URL ${shown(url)} does not match any allowed URL(s)`);
    return url;
  }
  const file = path.join(store, url);
  if (!existsSync(file)) throw refusal(`${what} not found at: ${shown(url)}`);
  return file;
}

const idOf = (name: string, version: string | null): string => JSON.stringify([name, version]);
const shown = (url: string): string => url.slice(0, 200);

/** The file's, without what follows its first dot of an archive. */
const nameOf = (url: string): string =>
  path
    .basename(url)
    .replace(/\.(?:mar|model|zip|tar|tgz|tar\.gz)$/i, '')
    .replace(/[^\w.-]/g, '_');

function entryPointOf(handler: string | undefined): string | undefined {
  if (handler === undefined || handler === '') return undefined;
  return OWN_HANDLER.test(handler) ? `builtin:${handler}` : handler;
}

function startFailure(name: string, version: string, workers: number, error: unknown): ServingError {
  const cause = ServingError.from(error);
  if (workers === 0 || cause.code === 'OUT_OF_MEMORY' || cause.code === 'SHUTTING_DOWN') return cause;
  const sentence = `Failed to start workers for model ${name} version: ${version}: ${cause.message}`;
  return new TorchServeRefusal(cause.code, 'InternalServerException', 500, sentence, error);
}

function whenGiven<K extends string, V>(field: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [field]: value } as { [P in K]?: V });
}
