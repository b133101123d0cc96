/**
 * Names, versions, and which version a request gets.
 *
 * In      models, by name and version
 * Out     the versions of a name in the order of their registration; where no version is asked for, the default one, or round robin
 * Errors  ALREADY_REGISTERED, MODEL_NOT_FOUND, in DJLServing's words
 * Pure
 * Source  DJLServing 0.36, ModelManager: an unversioned model needs a name of its own; a version, one that is not used
 *
 * Round robin goes over the versions that can serve: one that still loads, or has failed, or has no workers, does not take its
 * share of the requests away from the others. (DJLServing lets it fail them.) TorchServe's rule is another: the first version is the
 * default one, until another is made so.
 */
import { ServingError } from '../../proto/errors.js';

export interface Versioned {
  readonly name: string;
  readonly version: string | null;
}

/** What a request without a version gets. */
export type VersionRule = 'round-robin' | 'default';

interface Entry<M> {
  versions: M[];
  next: number;
  /** null: there is none by this rule. */
  default: M | null;
}

export class ModelRegistry<M extends Versioned> {
  readonly #canServe: (model: M) => boolean;
  readonly #rule: VersionRule;
  readonly #byName = new Map<string, Entry<M>>();

  constructor(canServe: (model: M) => boolean, rule: VersionRule = 'round-robin') {
    this.#canServe = canServe;
    this.#rule = rule;
  }

  /** In no order. */
  all(): M[] {
    return [...this.#byName.values()].flatMap(({ versions }) => versions);
  }

  /** @throws ServingError ALREADY_REGISTERED */
  checkFree(name: string, version: string | null): void {
    const versions = this.#byName.get(name)?.versions ?? [];
    const isTaken = version === null ? versions.length > 0 : versions.some((one) => one.version === version);
    if (!isTaken) return;
    const shown = version === null ? name : `${name}:${version}`;
    throw new ServingError('ALREADY_REGISTERED', `Workflow ${shown} is already registered.`);
  }

  /** @throws ServingError ALREADY_REGISTERED */
  add(model: M): void {
    const { name, version } = model;
    this.checkFree(name, version);
    const entry = this.#byName.get(name);
    if (entry) entry.versions.push(model);
    else {
      const first = this.#rule === 'default' ? model : null;
      this.#byName.set(name, { versions: [model], next: 0, default: first });
    }
  }

  remove(model: M): void {
    const entry = this.#byName.get(model.name);
    if (!entry) return;
    entry.versions = entry.versions.filter((one) => one !== model);
    if (entry.default === model) entry.default = entry.versions[0] ?? null;
    if (entry.versions.length === 0) this.#byName.delete(model.name);
  }

  isDefault(model: M): boolean {
    return this.#byName.get(model.name)?.default === model;
  }

  /** From now on the one that requests without a version get. @throws ServingError MODEL_NOT_FOUND */
  setDefault(name: string, version: string | null): void {
    const [model] = this.find(name, version);
    this.#byName.get(name)!.default = model!;
  }

  /**
   * One version, or all of them where `version` is null.
   *
   * @throws ServingError MODEL_NOT_FOUND
   */
  find(name: string, version: string | null): readonly M[] {
    const versions = this.#byName.get(name)?.versions ?? [];
    const found = version === null ? versions : versions.filter((one) => one.version === version);
    if (found.length > 0) return [...found];
    const shown = version === null ? name : `${name}/${version}`;
    throw new ServingError('MODEL_NOT_FOUND', `Model or workflow not found: ${shown}`);
  }

  /**
   * The one that gets the next request.
   *
   * @throws ServingError MODEL_NOT_FOUND
   */
  pick(name: string, version: string | null): M {
    const found = this.find(name, version);
    const preferred = version === null ? this.#byName.get(name)!.default : null;
    if (preferred !== null) return preferred;
    const able = found.filter(this.#canServe);
    const among = able.length > 0 ? able : found;
    const entry = this.#byName.get(name)!;
    const picked = among[entry.next % among.length]!;
    if (version === null) entry.next = (entry.next + 1) % Number.MAX_SAFE_INTEGER;
    return picked;
  }
}
