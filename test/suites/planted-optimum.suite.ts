/** A tuning of servers that are formulas: how near the search comes, and how honest its intervals are, over many seeds. */
import { describe, expect, it } from 'vitest';
import { Goals } from '../../tuner/decide/goals.js';
import type { Measurement } from '../../tuner/run/measurement.js';
import { type SearchMode, TuneRun } from '../../tuner/run/tune-run.js';
import { MODEL, PlantedSurface } from '../fixtures/planted-surface.js';

const NOISE = 0.03;
const GOALS = new Goals([
  {
    ...{ model: MODEL, weight: 1, constraints: [] },
    objectives: [{ metric: 'throughput_per_s', weight: 10 }],
  },
]);
const LOAD = { kind: 'concurrency', value: 16 } as const;

function tuned(surface: PlantedSurface, seed: number, mode: SearchMode, maxMeasurements: number) {
  const measurements: Measurement[] = [];
  const store = { measurements, append: (one: Measurement) => void measurements.push(one) };
  return new TuneRun(
    {
      space: surface.space,
      loads: [LOAD],
      goals: GOALS,
      search: { mode, maxMeasurements, maxMs: null, patience: 0, seed, leaveEarly: true },
      compare: { top: 3, rounds: 5 },
      verdict: { level: 0.95, leastGain: 0 },
    },
    { measure: surface.measure, store, stop: { requested: false } },
  ).run();
}

/** What the score of a setting beside the default would be without noise. */
function trueScore(surface: PlantedSurface, settings: Record<string, unknown>): number {
  const [ours, base] = [surface.truth(settings as Record<string, number>), surface.truth({})];
  return (ours - base) / ((ours + base) / 2);
}

async function results(mode: SearchMode, height: number, seeds: number, share = 0.15) {
  let near = 0;
  let held = 0;
  let none = 0;
  for (let seed = 0; seed < seeds; seed++) {
    const surface = new PlantedSurface(seed, height, NOISE);
    const { outcome } = await tuned(surface, seed, mode, Math.floor(share * surface.space.size));
    const compared = [...outcome.verdict!.compared].sort((a, b) => b.gain!.mean - a.gain!.mean)[0]!;
    const { settings } = outcome.ranked.find(({ name }) => name === compared.name)!;
    const truth = trueScore(surface, settings);
    if (surface.truth(settings) >= 0.95 * surface.best) near++;
    if (compared.gain!.low <= truth && truth <= compared.gain!.high) held++;
    if (outcome.verdict!.winner === null) none++;
  }
  return { near: near / seeds, held: held / seeds, none: none / seeds };
}

export interface PlantedOptimumBounds {
  /** The climb's, and the flat surface's. */
  seeds: number;
  /** Those of the tree of Parzen estimators, which takes longer. */
  tpeSeeds: number;
  /** Least share of intervals that hold the truth. */
  held: number;
  /** Least share of flat surfaces without a winner. */
  none: number;
}

export function plantedOptimumSuite(bounds: PlantedOptimumBounds): void {
  describe(`over ${bounds.seeds} seeds`, () => {
    it.each([
      ['climb', bounds.seeds],
      ['tpe', bounds.tpeSeeds],
    ] as const)(
      '%s comes within a twentieth of the best of the grid in 15 hundredths of its measurements, and its interval holds the truth',
      async (mode, seeds) => {
        const { held, near } = await results(mode, 2, seeds);
        expect(near, 'share of seeds that came near').toBeGreaterThan(0.95);
        expect(held, 'share of intervals that hold the truth').toBeGreaterThanOrEqual(bounds.held);
      },
      1_800_000,
    );

    it('a flat surface has no winner', async () => {
      const { held, none } = await results('climb', 0, bounds.seeds);
      expect(none).toBeGreaterThanOrEqual(bounds.none);
      expect(held).toBeGreaterThanOrEqual(bounds.held);
    }, 1_800_000);
  });
}
