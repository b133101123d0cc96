/**
 * The whole of a tuning: the default, the search, the repeats; every measurement into the journal, none twice.
 *
 * In      space, loads, goals, a search, what measures, a journal
 * Out     Outcome; onStep before each measurement, with what is left at most
 * Limits  budgetOf() tells before how many measurements there will be at most; `stop.requested` ends after the running one
 * How     the search is asked again from its beginning when a run is resumed, and answered from the journal as far as that goes: nothing of
 *         its state is stored
 */
import type { Goals } from '../decide/goals.js';
import type { VerdictOptions } from '../decide/verdict.js';
import { Random } from '../load/random.js';
import { GridSearch } from '../search/grid-search.js';
import { HillClimb } from '../search/hill-climb.js';
import { RandomSearch } from '../search/random-search.js';
import type { Search } from '../search/search.js';
import { TpeSearch } from '../search/tpe-search.js';
import { type Settings, Space } from '../space/space.js';
import { type LoadPoint, type Measure, type Measurement, type Question, questionKey } from './measurement.js';
import { type Outcome, outcomeOf } from './outcome.js';

export const SEARCH_MODES = ['grid', 'climb', 'tpe', 'random'] as const;
export type SearchMode = (typeof SEARCH_MODES)[number];

export interface TuneRunOptions {
  space: Space;
  loads: readonly LoadPoint[];
  goals: Goals;
  search: {
    mode: SearchMode;
    /** The default's own among them. */
    maxMeasurements: number;
    maxMs: number | null;
    patience: number;
    seed: number;
    leaveEarly: boolean;
  };
  compare: { top: number; rounds: number };
  verdict: VerdictOptions;
}

export interface Store {
  readonly measurements: readonly Measurement[];
  append(measurement: Measurement): void;
}

export interface Step {
  stage: 'default' | 'search' | 'compare';
  question: Question;
  done: number;
  atMost: number;
}

export interface TuneRunParts {
  measure: Measure;
  store: Store;
  stop: { requested: boolean };
  onStep?: (step: Step) => void;
  onMeasured?: (measurement: Measurement, isNew: boolean) => void;
  now?: () => Date;
}

const LOAD = 'load';

export class TuneRun {
  readonly #options: TuneRunOptions;
  readonly #parts: TuneRunParts;
  readonly #known: Map<string, Measurement>;
  readonly #made: Measurement[] = [];
  readonly #space: Space;
  #startedMs = 0;

  constructor(options: TuneRunOptions, parts: TuneRunParts) {
    this.#options = options;
    this.#parts = parts;
    this.#known = new Map(parts.store.measurements.map((one) => [one.key, one]));
    const { loads, space } = options;
    this.#space =
      loads.length === 1
        ? space
        : new Space([...space.dimensions, { name: LOAD, values: loads.map(({ value }) => value) }]);
  }

  async run(): Promise<{ outcome: Outcome; wasStopped: boolean }> {
    this.#startedMs = performance.now();
    const { loads } = this.#options;
    for (const load of loads) await this.#ask('default', { settings: {}, load, round: 0 });
    if (this.#options.space.dimensions.length > 0) {
      await this.#search();
      await this.#compare();
    }
    return { outcome: this.#outcome(), wasStopped: this.#parts.stop.requested };
  }

  #outcome(): Outcome {
    const { goals, verdict } = this.#options;
    return outcomeOf(this.#made, goals, verdict);
  }

  async #search(): Promise<void> {
    const { goals, loads, search } = this.#options;
    const walk = searchOf(this.#space, search, loads.length > 1);
    while (this.#made.length < budgetOf(this.#options).search && !this.#parts.stop.requested) {
      if (search.maxMs !== null && performance.now() - this.#startedMs > search.maxMs) return;
      const point = walk.next();
      if (point === null) return;
      const { [LOAD]: value, ...settings } = this.#space.settings(point);
      const load = value === undefined ? loads[0]! : loads.find((one) => one.value === value)!;
      const measurement = await this.#ask('search', { settings, load, round: 0 });
      if (measurement === null) return;
      // The default, or what could be served first.
      const base = this.#made.find(({ outcome }) => outcome === 'measured') ?? null;
      walk.tell(point, goals.searchScore(measurement, base));
    }
  }

  /** The best few and the default in turns; the order of a turn is drawn, so that no one is always first. */
  async #compare(): Promise<void> {
    const { compare, loads, search } = this.#options;
    const { base, ranked } = this.#outcome();
    const chosen = ranked.filter(({ best, isDefault }) => !isDefault && best !== null).slice(0, compare.top);
    if (chosen.length === 0) return;
    const loadOf = (best: Measurement | null | undefined): LoadPoint => best?.load ?? loads[0]!;
    const sides: { settings: Settings; load: LoadPoint }[] = [
      { settings: {}, load: loadOf(base?.best) },
      ...chosen.map(({ best, settings }) => ({ settings, load: loadOf(best) })),
    ];
    for (let round = 1; round <= compare.rounds; round++) {
      const random = new Random(search.seed, 'turn', round);
      const turn = sides.map((side) => ({ side, at: random.uniform() })).sort((a, b) => a.at - b.at);
      for (const { side } of turn) await this.#ask('compare', { ...side, round });
    }
  }

  async #ask(stage: Step['stage'], question: Question): Promise<Measurement | null> {
    const { measure, now = () => new Date(), onMeasured, onStep, stop, store } = this.#parts;
    if (stop.requested) return null;
    const key = questionKey(question);
    const known = this.#known.get(key);
    if (known) {
      this.#made.push(known);
      onMeasured?.(known, false);
      return known;
    }
    onStep?.({ stage, question, done: this.#made.length, atMost: budgetOf(this.#options).total });
    const at = now().toISOString();
    const body = await measure(question);
    const measurement: Measurement = { key, at, ...question, ...body };
    store.append(measurement);
    this.#known.set(key, measurement);
    this.#made.push(measurement);
    onMeasured?.(measurement, true);
    return measurement;
  }
}

/** How many measurements there are at most: of default and search, of the repeats. */
export function budgetOf({ compare, loads, search, space }: TuneRunOptions): {
  search: number;
  compare: number;
  total: number;
} {
  if (space.dimensions.length === 0) return { search: loads.length, compare: 0, total: loads.length };
  const grid = space.size * loads.length + loads.length;
  const searched = Math.max(loads.length, Math.min(grid, search.maxMeasurements));
  const candidates = Math.min(compare.top, space.size);
  const compared = compare.rounds === 0 || candidates === 0 ? 0 : (candidates + 1) * compare.rounds;
  return { search: searched, compare: compared, total: searched + compared };
}

function searchOf(space: Space, search: TuneRunOptions['search'], hasLoads: boolean): Search {
  const { mode, patience, seed } = search;
  switch (mode) {
    case 'grid':
      return new GridSearch(space, { leaveEarly: hasLoads && search.leaveEarly });
    case 'climb':
      return new HillClimb(space, { seed, patience, start: null });
    case 'tpe':
      return new TpeSearch(space, { seed, patience, start: null });
    case 'random':
      return new RandomSearch(space, { seed });
  }
}
