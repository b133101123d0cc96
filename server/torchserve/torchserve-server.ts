/**
 * What a server that TorchServe's command started has besides any other: tokens, its dialects, its models' manifests, snapshots.
 *
 * In      the configuration; the model store; the work load manager
 * Out     parts for server/main.ts
 * Errors  CONFIG_INVALID: the tokens cannot be written; of a startup model whose archive cannot be read
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { KeySource } from '../access/access-control.js';
import type { Scope } from '../access/access-key.js';
import { TokenFile } from '../access/token-file.js';
import type { Config, ListenAddress, ModelRegistration } from '../config/config.js';
import type {
  StartupEntry,
  TorchServeConfig,
  TorchServeModelSettings,
} from '../config/torchserve/torchserve-config.js';
import type { GrpcServer } from '../grpc/grpc-listener.js';
import type { GrpcServerOptions } from '../grpc/grpc-server.js';
import { createTorchServeServers } from '../grpc/torchserve-servers.js';
import { refuseOpenAddress } from '../http/access-gate.js';
import type { Dialect } from '../http/dialect.js';
import { torchServeDialects } from '../http/dialects/torchserve/torchserve-dialects.js';
import { FIRST_VERSION, TorchServeModels } from '../http/dialects/torchserve/torchserve-models.js';
import type { HttpContext } from '../http/http-context.js';
import { type ArchiveManifest, archiveManifest } from '../model-store/archive-manifest.js';
import type { RegistrationFolders } from '../model-store/registration-folders.js';
import type { ManagementService } from '../requests/management.js';
import { grpcCallsOf } from './grpc-calls-of.js';
import { Snapshots } from './snapshots.js';

const PAGE_BYTES = 4096;
const MINUTE_MS = 60_000;

/** A folder of the model store, for as long as it is looked at. */
export interface LookedAt {
  folder: string;
  release(): Promise<void>;
}

export interface TorchServeServerOptions {
  config: Config;
  torchServe: TorchServeConfig;
  management: ManagementService;
  logger: Logger;
  /** Where a request may name files of this host. */
  allowed: RegistrationFolders;
  /** Brings what a URL names to this host. @throws ServingError */
  fetch(url: string): Promise<LookedAt>;
}

export class TorchServeServer {
  readonly models: TorchServeModels;
  readonly #options: TorchServeServerOptions;
  readonly #tokens: TokenFile | null;
  readonly #snapshots: Snapshots | null;

  /** @throws ServingError CONFIG_INVALID */
  constructor(options: TorchServeServerOptions) {
    this.#options = options;
    const { config, logger, management, torchServe } = options;
    const lifeMs = torchServe.tokenExpirationMinutes * MINUTE_MS;
    this.#tokens = torchServe.disableTokens ? null : new TokenFile(torchServe.keyFile, lifeMs);
    this.models = new TorchServeModels(management, {
      config: torchServe,
      modelStore: config.server.modelStore,
      tokens: this.#tokens,
      manifestOf: (url) => this.#manifestOf(url, true),
      residentBytes,
      onChange: () => this.#snapshots?.write('snapshot'),
    });
    this.#snapshots = torchServe.noSnapshots
      ? null
      : new Snapshots({
          torchServe,
          management,
          models: this.models,
          onTrouble: (text) => logger.error(text),
        });
    if (this.#tokens !== null) logger.info({ keyFile: torchServe.keyFile }, 'the tokens are written');
  }

  /** Keys besides the configuration's. */
  get keySources(): readonly KeySource[] {
    return this.#tokens === null ? [] : [this.#tokens];
  }

  get dialects(): Dialect[] {
    return torchServeDialects(this.models);
  }

  /** Inference and management. @throws ServingError CONFIG_INVALID: an address that is open to others */
  grpcServers(context: HttpContext, parts: Omit<GrpcServerOptions, 'address'>): GrpcServer[] {
    const { config, torchServe } = this.#options;
    const { grpcInferenceAddress, grpcManagementAddress } = torchServe;
    const checkOpen = (key: string, address: ListenAddress, scopes: readonly Scope[]): void =>
      refuseOpenAddress(key, address, scopes, parts.access, config.server);
    checkOpen('grpc_inference_address', grpcInferenceAddress, ['infer', 'manage']);
    checkOpen('grpc_management_address', grpcManagementAddress, ['manage']);
    return createTorchServeServers({
      ...parts,
      calls: grpcCallsOf(context, this.models),
      inferenceAt: {
        address: grpcInferenceAddress,
        maxAgeMs: torchServe.grpcInferenceMaxAgeMs,
        graceMs: torchServe.grpcInferenceGraceMs,
      },
      managementAt: {
        address: grpcManagementAddress,
        maxAgeMs: torchServe.grpcManagementMaxAgeMs,
        graceMs: torchServe.grpcManagementGraceMs,
      },
    });
  }

  /** Registrations of what is loaded at start. @throws ServingError */
  async startupModels(): Promise<ModelRegistration[]> {
    const registrations: ModelRegistration[] = [];
    for (const entry of this.#options.torchServe.startupModels)
      registrations.push(await this.#registrationOf(entry));
    return registrations;
  }

  /** All startup models are there. */
  started(): void {
    const { management, torchServe } = this.#options;
    for (const [name, versions] of Object.entries({ ...torchServe.models, ...torchServe.snapshot })) {
      const [wanted] = Object.entries(versions).find(([, one]) => one.defaultVersion === true) ?? [];
      const isThere = management.list().some((pool) => pool.name === name && pool.version === wanted);
      if (wanted !== undefined && isThere) management.setDefault(name, wanted);
    }
    this.#snapshots?.write('startup');
  }

  stopping(): void {
    this.#snapshots?.write('shutdown');
  }

  async #registrationOf({ name: given, shown, url }: StartupEntry): Promise<ModelRegistration> {
    const { torchServe } = this.#options;
    const manifest = await this.#manifestOf(url, false);
    const name = given ?? manifest.modelName ?? nameOf(url);
    const version = manifest.modelVersion ?? FIRST_VERSION;
    const settings = settingsOf(torchServe, name, version, shown);
    this.models.remember(name, version, { url: shown, runtime: manifest.runtime ?? 'python' });
    const workers = torchServe.defaultWorkers > 0 ? torchServe.defaultWorkers : undefined;
    const values: Record<string, number | undefined> = {
      'cpu.minWorkers': settings?.minWorkers ?? workers,
      'cpu.maxWorkers': settings?.maxWorkers ?? settings?.minWorkers ?? workers,
      batch_size: settings?.batchSize,
      max_batch_delay: settings?.maxBatchDelay,
      'option.step_timeout': settings?.responseTimeout,
      'option.model_loading_timeout': settings?.startupTimeout,
    };
    return {
      ...{ name, version, url, where: `load_models entry ${shown}`, byOperator: true },
      arguments: Object.fromEntries(
        Object.entries(values).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
      ),
    };
  }

  /** @throws ServingError */
  async #manifestOf(url: string, byRequest: boolean): Promise<ArchiveManifest> {
    const isFile = url.startsWith('file:');
    if (!isFile && /^[a-z][a-z0-9+.-]*:\/\//i.test(url)) {
      const looked = await this.#options.fetch(url);
      try {
        return await archiveManifest(looked.folder);
      } finally {
        await looked.release();
      }
    }
    const place = isFile ? fileURLToPath(url) : url;
    if (byRequest && !(await this.#options.allowed.allows(place)))
      throw new ServingError('MODEL_NOT_FOUND', `Model not found at: ${isFile ? url : path.basename(url)}`);
    return archiveManifest(place);
  }
}

/** By name and version; of `models` also by the file alone, as TorchServe finds them. */
function settingsOf(
  { models, snapshot }: TorchServeConfig,
  name: string,
  version: string,
  shown: string,
): TorchServeModelSettings | undefined {
  const known = (snapshot ?? models)[name];
  return known?.[version] ?? Object.values(known ?? {}).find(({ marName }) => marName === shown);
}

const nameOf = (url: string): string =>
  path
    .basename(url)
    .replace(/\.(?:mar|model|zip|tar|tgz|tar\.gz)$/i, '')
    .replace(/[^\w.-]/g, '_');

/** null: the process is gone. */
function residentBytes(pid: number): number | null {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return Number.isFinite(pages) ? pages * PAGE_BYTES : null;
  } catch {
    return null;
  }
}
