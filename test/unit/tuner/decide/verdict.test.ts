/** What is said of the repeats: winners, noise, a default that fails, nothing that passes. */
import { describe, expect, it } from 'vitest';
import { type Constraint, failureDistance } from '../../../../tuner/decide/constraints.js';
import { Goals } from '../../../../tuner/decide/goals.js';
import { percentGain, score } from '../../../../tuner/decide/score.js';
import { verdict } from '../../../../tuner/decide/verdict.js';
import { noFigures } from '../../../../tuner/load/figures.js';
import type { Measurement } from '../../../../tuner/run/measurement.js';
import type { Figures } from '../../../../tuner/units/metrics.js';

const figures = (given: Record<string, number>): Figures => ({ ...noFigures(), ...given }) as Figures;
const P99: Constraint = { metric: 'latency_p99_ms', min: null, max: 30 };
const goalsOf = (constraints: Constraint[] = []) =>
  new Goals([
    { model: 'm', weight: 1, constraints, objectives: [{ metric: 'throughput_per_s', weight: 10 }] },
  ]);

function repeats(throughputs: number[], latency = 20): Measurement[] {
  return throughputs.map((value, index) => ({
    ...{ key: `${index}`, at: '', settings: {}, load: { kind: 'concurrency', value: 1 }, round: index + 1 },
    ...{ outcome: 'measured', reason: null, warnings: [], profile: null, took_ms: 1 },
    models: {
      m: {
        figures: figures({ throughput_per_s: value, latency_p99_ms: latency }),
        ...{
          errors: {},
          windows: 3,
          is_stable: true,
          spread: 0,
          unfinished: 0,
          window_throughputs_per_s: [],
        },
      },
    },
  }));
}
const OPTIONS = { level: 0.95, leastGain: 0 };
const candidate = (throughputs: number[], latency?: number) => ({
  name: 'm_config_1',
  repeats: repeats(throughputs, latency),
});
const base = (throughputs: number[], latency?: number) => ({
  name: 'm_config_default',
  repeats: repeats(throughputs, latency),
});

describe('a score', () => {
  it('is the weighted relative difference, of Model Analyzer: w · (a − b) / mean(a, b)', () => {
    const [a, b] = [
      figures({ throughput_per_s: 300, latency_p99_ms: 60 }),
      figures({ throughput_per_s: 100, latency_p99_ms: 20 }),
    ];
    expect(score(a, b, [{ metric: 'throughput_per_s', weight: 10 }])).toBeCloseTo(1, 12);
    expect(score(a, b, [{ metric: 'latency_p99_ms', weight: 1 }])).toBeCloseTo(-1, 12);
    const both = [
      { metric: 'throughput_per_s', weight: 3 },
      { metric: 'latency_p99_ms', weight: 1 },
    ] as const;
    expect(score(a, b, both)).toBeCloseTo(0.5, 12);
  });

  it('keeps the other objectives when one was not measured', () => {
    const [a, b] = [figures({ throughput_per_s: 300 }), figures({ throughput_per_s: 100 })];
    const objectives = [
      { metric: 'throughput_per_s', weight: 1 },
      { metric: 'gpu_memory_bytes', weight: 9 },
    ] as const;
    expect(score(a, b, objectives)).toBeCloseTo(1, 12);
  });

  it('gives gains as people read them: of the old throughput, of the new latency', () => {
    const [a, b] = [
      figures({ throughput_per_s: 150, latency_p99_ms: 100 }),
      figures({ throughput_per_s: 100, latency_p99_ms: 200 }),
    ];
    expect(percentGain(a, b, [{ metric: 'throughput_per_s', weight: 1 }])).toBeCloseTo(50, 9);
    expect(percentGain(a, b, [{ metric: 'latency_p99_ms', weight: 1 }])).toBeCloseTo(100, 9);
  });
});

describe('constraints', () => {
  it('fail by their share of the limit, and by all of it where nothing was measured', () => {
    expect(failureDistance(figures({ latency_p99_ms: 30 }), [P99])).toBe(0);
    expect(failureDistance(figures({ latency_p99_ms: 45 }), [P99])).toBeCloseTo(0.5, 12);
    expect(failureDistance(figures({}), [P99])).toBe(1);
    const least: Constraint = { metric: 'throughput_per_s', min: 40, max: null };
    expect(failureDistance(figures({ throughput_per_s: 30, latency_p99_ms: 60 }), [P99, least])).toBeCloseTo(
      1.25,
      12,
    );
  });
});

describe('a verdict', () => {
  it('names a winner that is better in every repeat, with its interval', () => {
    const found = verdict([candidate([120, 122, 121])], base([100, 101, 100]), goalsOf(), OPTIONS);
    expect(found.winner).toBe('m_config_1');
    expect(found.sentence).toMatch(
      /^m_config_1 is better than the default: \+20\.\d %, 95 % interval of the score/,
    );
  });

  it('refuses one inside the noise, in words', () => {
    const found = verdict([candidate([103, 95, 108])], base([100, 101, 99]), goalsOf(), OPTIONS);
    expect(found.winner).toBe(null);
    expect(found.sentence).toMatch(/^No winner: m_config_1, the best, is within noise of the default/);
  });

  it('says that the default does not meet the constraints, and by what', () => {
    const found = verdict([candidate([90, 91, 90])], base([100, 101, 100], 61), goalsOf([P99]), OPTIONS);
    expect(found.winner).toBe('m_config_1');
    expect(found.sentence).toBe(
      'm_config_1 meets the constraints; the default does not meet the constraints (p99 latency 61.00 ms > 30.00 ms).',
    );
  });

  it('holds a winner against a default that failed once in three by noise', () => {
    const once = [...repeats([100, 101]), ...repeats([100], 31).map((one) => ({ ...one, round: 3 }))];
    const found = verdict(
      [candidate([120, 122, 121])],
      { name: 'd', repeats: once },
      goalsOf([P99]),
      OPTIONS,
    );
    expect(found).toMatchObject({ winner: 'm_config_1', defaultPassed: 2, defaultHolds: true });
    expect(found.sentence).toMatch(/is better than the default/);
  });

  it('has no winner when nothing passes in every repeat', () => {
    const found = verdict([candidate([120, 121, 122], 31)], base([100, 101, 100]), goalsOf([P99]), OPTIONS);
    expect(found.winner).toBe(null);
    expect(found.sentence).toBe('No configuration met the constraints in every repeat.');
  });
});
