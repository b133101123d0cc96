/**
 * Where a model comes from: a configuration whose folder is there, or a URL that is fetched first.
 *
 * In      ModelConfig, or a registration; the model store's fetch and release
 * Out     what is known before anything is fetched (`provisional`), then the configuration; `release` gives back what was fetched
 * Errors  those of the model store, CONFIG_INVALID of the model's own serving.properties
 */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import type { ModelConfig, ModelRegistration } from '../config/config.js';
import type { LoadingProgress } from '../requests/management.js';

/** A folder of the model store; `owned`: it goes with the model. */
export interface FetchedFolder {
  folder: string;
  owned: boolean;
}

export interface LocateOptions {
  signal: AbortSignal;
  /** A request asks, not the operator. */
  byRequest: boolean;
  onProgress: (progress: LoadingProgress) => void;
}

/** The model store and the configuration, as far as registration needs them. */
export interface RegistrationParts {
  /** @throws ServingError */
  fetch(url: string, options: LocateOptions): Promise<FetchedFolder>;
  release(fetched: FetchedFolder): Promise<void>;
  /** Checks the form of a URL, too. @throws ServingError BAD_REQUEST */
  nameOf(url: string): string;
  /** @param folder null: not fetched yet. @throws ServingError CONFIG_INVALID */
  configure(registration: ModelRegistration, folder: string | null): ModelConfig;
}

export class ModelOrigin {
  readonly provisional: ModelConfig;
  readonly #parts: RegistrationParts | null;
  readonly #registration: ModelRegistration | null;
  readonly #byRequest: boolean;
  readonly #fetched: FetchedFolder[] = [];

  private constructor(
    provisional: ModelConfig,
    parts: RegistrationParts | null,
    registration: ModelRegistration | null,
    byRequest: boolean,
  ) {
    this.provisional = provisional;
    this.#parts = parts;
    this.#registration = registration;
    this.#byRequest = byRequest;
  }

  static ofConfig(config: ModelConfig, parts: RegistrationParts | null): ModelOrigin {
    return new ModelOrigin(config, parts, null, false);
  }

  /** @throws ServingError CONFIG_INVALID: an argument of the registration */
  static ofRegistration(
    registration: ModelRegistration,
    parts: RegistrationParts,
    byRequest: boolean,
  ): ModelOrigin {
    return new ModelOrigin(parts.configure(registration, null), parts, registration, byRequest);
  }

  /** @throws ServingError; what was fetched until then is still to be released */
  async locate(given: Omit<LocateOptions, 'byRequest'>): Promise<ModelConfig> {
    const registration = this.#registration;
    const options = { ...given, byRequest: this.#byRequest };
    let config = this.provisional;
    if (registration) {
      const isOwn = await liesInWorkflow(registration);
      const folder = await this.#fetch(registration.url, isOwn ? { ...options, byRequest: false } : options);
      config = this.#parts!.configure(registration, folder);
      // A checkpoint elsewhere on this host: as if the request had named it.
      if (this.#byRequest && config.checkpointUrl === null && !isInside(folder, config.folder))
        config = { ...config, folder: await this.#fetch(config.folder, options) };
    }
    const { boundModel, checkpointUrl } = config;
    if (boundModel !== null) {
      config = { ...config, boundModel: await this.#checkpoint(boundModel, config.folder, options) };
    }
    return checkpointUrl === null ? config : { ...config, folder: await this.#fetch(checkpointUrl, options) };
  }

  /** What a handler asks, as if it had been named itself. */
  async #checkpoint(bound: ModelConfig, own: string, options: LocateOptions): Promise<ModelConfig> {
    const { checkpointUrl, folder } = bound;
    if (checkpointUrl !== null)
      return { ...bound, checkpointUrl: null, folder: await this.#fetch(checkpointUrl, options) };
    if (!this.#byRequest || isInside(own, folder)) return bound;
    return { ...bound, folder: await this.#fetch(folder, options) };
  }

  async release(): Promise<void> {
    for (const fetched of this.#fetched.splice(0)) await this.#parts?.release(fetched);
  }

  async #fetch(url: string, options: LocateOptions): Promise<string> {
    if (!this.#parts) throw new Error('there is no model store to fetch a checkpoint from');
    const fetched = await this.#parts.fetch(url, options);
    this.#fetched.push(fetched);
    return fetched.folder;
  }
}

/** What lies in a workflow's folder is let in with it: links followed. */
async function liesInWorkflow({ url, workflow }: ModelRegistration): Promise<boolean> {
  if (workflow === undefined || workflow.folder === null) return false;
  return isInside(await realpath(workflow.folder), await realpath(url));
}

/** Links in what was found or fetched are checked by then. */
function isInside(folder: string, checkpoint: string): boolean {
  return checkpoint === folder || checkpoint.startsWith(`${folder}${path.sep}`);
}
