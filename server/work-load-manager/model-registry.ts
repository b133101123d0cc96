/**
 * Names, versions, and which version a request gets.
 *
 * In      models, by name and version
 * Out     the versions of a name in the order of their registration; where no version is asked for, the default one, or one by their
 *         weights: in turn, or for a session always the same
 * Errors  ALREADY_REGISTERED, MODEL_NOT_FOUND, in DJLServing's words
 * Pure
 * Source  DJLServing 0.36, ModelManager: an unversioned model needs a name of its own; a version, one that is not used
 *
 * Round robin goes over the versions that can serve: one that still loads, or has failed, or has no workers, does not take its
 * share of the requests away from the others. (DJLServing lets it fail them.) TorchServe's rule is another: the first version is the
 * default one, until another is made so.
 *
 * Turns are nginx's smooth weighted ones: at equal weights round robin, at 3 to 1 never three in a row longer than needed. A session
 * is not remembered: it has the version whose hash of it is highest (weighted rendezvous), so a weight that changes or a version that
 * comes or goes moves no more sessions than it must, and nothing grows with the clients.
 */
import { createHash } from 'node:crypto';
import { ServingError } from '../../proto/errors.js';

export interface Versioned {
  readonly name: string;
  readonly version: string | null;
}

/** What a request without a version gets. */
export type VersionRule = 'round-robin' | 'default';

/** What a version that nobody weighed has. */
export const USUAL_WEIGHT = 1;

interface Entry<M> {
  versions: M[];
  /** Each version's share of the name's requests, and what it has in hand for its next turn. */
  turns: Map<M, { weight: number; inHand: number }>;
  /** null: there is none by this rule. */
  default: M | null;
}

export class ModelRegistry<M extends Versioned> {
  readonly #canServe: (model: M) => boolean;
  readonly #rule: VersionRule;
  readonly #byName = new Map<string, Entry<M>>();
  #revision = 0;

  constructor(canServe: (model: M) => boolean, rule: VersionRule = 'round-robin') {
    this.#canServe = canServe;
    this.#rule = rule;
  }

  /** Another one when a model has come or gone. */
  get revision(): number {
    return this.#revision;
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
  add(model: M, weight = USUAL_WEIGHT): void {
    const { name, version } = model;
    this.checkFree(name, version);
    let entry = this.#byName.get(name);
    if (!entry) {
      entry = { versions: [], turns: new Map(), default: this.#rule === 'default' ? model : null };
      this.#byName.set(name, entry);
    }
    this.#revision++;
    entry.versions.push(model);
    entry.turns.set(model, { weight, inHand: 0 });
  }

  remove(model: M): void {
    const entry = this.#byName.get(model.name);
    if (!entry) return;
    this.#revision++;
    entry.versions = entry.versions.filter((one) => one !== model);
    entry.turns.delete(model);
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

  weightOf(model: M): number {
    return this.#byName.get(model.name)?.turns.get(model)?.weight ?? USUAL_WEIGHT;
  }

  /** Its share of the requests without a version, beside the other versions' weights. */
  setWeight(model: M, weight: number): void {
    const turns = this.#byName.get(model.name)?.turns;
    if (!turns?.has(model)) return;
    turns.get(model)!.weight = weight;
    // What was in hand came of the old weights.
    for (const turn of turns.values()) turn.inHand = 0;
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
   * @param session requests of one session get the same version, as long as it serves; null: each takes its turn
   * @throws ServingError MODEL_NOT_FOUND
   */
  pick(name: string, version: string | null, session: string | null = null): M {
    const found = this.find(name, version);
    const { default: preferred, turns } = this.#byName.get(name)!;
    if (version !== null) return found.find(this.#canServe) ?? found[0]!;
    if (preferred !== null) return preferred;
    const able = found.filter(this.#canServe);
    const serving = able.length > 0 ? able : found;
    const weighed = serving.map((model) => ({ model, turn: turns.get(model)! }));
    // Who takes none by the name takes all where nobody else is left.
    const among = weighed.some(({ turn }) => turn.weight > 0)
      ? weighed.filter(({ turn }) => turn.weight > 0)
      : weighed;
    return session === null ? inTurn(among) : ofSession(among, session);
  }
}

type Weighed<M> = { model: M; turn: { weight: number; inHand: number } };

function inTurn<M>(among: readonly Weighed<M>[]): M {
  let total = 0;
  let picked = among[0]!;
  for (const one of among) {
    const weight = one.turn.weight || USUAL_WEIGHT;
    total += weight;
    one.turn.inHand += weight;
    if (one.turn.inHand > picked.turn.inHand) picked = one;
  }
  picked.turn.inHand -= total;
  return picked.model;
}

function ofSession<M extends Versioned>(among: readonly Weighed<M>[], session: string): M {
  const scored = among.map(({ model, turn }) => ({
    model,
    score: -(turn.weight || USUAL_WEIGHT) / Math.log(uniform(session, model.version ?? '')),
  }));
  return scored.reduce((best, one) => (one.score > best.score ? one : best)).model;
}

/** Between 0 and 1, neither of them, and always the same of the same texts. */
function uniform(session: string, version: string): number {
  const digest = createHash('sha256')
    .update(JSON.stringify([session, version]))
    .digest();
  return (digest.readUIntBE(0, 6) + 0.5) / 2 ** 48;
}
