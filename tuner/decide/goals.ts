/**
 * Goals of all models together: what they must keep, what is wanted of them, how much each model counts.
 *
 * In      a measurement
 * Out     whether it passes, how far it is from that, its score beside another
 */
import type { Measurement, MeasurementBody } from '../run/measurement.js';
import { type Constraint, failureDistance, showViolation, violations } from './constraints.js';
import { type Objective, percentGain, score } from './score.js';

export interface ModelGoals {
  model: string;
  weight: number;
  constraints: readonly Constraint[];
  objectives: readonly Objective[];
}

export class Goals {
  readonly models: readonly ModelGoals[];
  readonly #total: number;

  constructor(models: readonly ModelGoals[]) {
    this.models = models;
    this.#total = models.reduce((sum, { weight }) => sum + weight, 0);
  }

  distance(measurement: MeasurementBody): number {
    if (measurement.outcome === 'infeasible') return Number.POSITIVE_INFINITY;
    return this.models.reduce(
      (sum, { constraints, model }) => sum + failureDistance(measurement.models[model]!.figures, constraints),
      0,
    );
  }

  passes(measurement: MeasurementBody): boolean {
    return this.distance(measurement) === 0;
  }

  /** More is better; 0: as good as the other. */
  score(a: MeasurementBody, b: MeasurementBody): number {
    return this.#weighted((goals) =>
      score(a.models[goals.model]!.figures, b.models[goals.model]!.figures, goals.objectives),
    );
  }

  percentGain(a: MeasurementBody, b: MeasurementBody): number {
    return this.#weighted(
      (goals) =>
        percentGain(a.models[goals.model]!.figures, b.models[goals.model]!.figures, goals.objectives) ?? 0,
    );
  }

  /** For a search: a configuration that fails is worse than any that passes, the more the further it is. */
  searchScore(measurement: Measurement, base: Measurement | null): number | null {
    if (measurement.outcome === 'infeasible') return null;
    const distance = this.distance(measurement);
    if (distance > 0) return -10 - distance;
    return base === null || base.outcome === 'infeasible' ? 0 : this.score(measurement, base);
  }

  /** Sentences, a violation each. */
  failures(measurement: MeasurementBody): string[] {
    if (measurement.outcome === 'infeasible') return [measurement.reason ?? 'it could not be served'];
    const many = this.models.length > 1;
    return this.models.flatMap(({ constraints, model }) =>
      violations(measurement.models[model]!.figures, constraints).map(
        (violation) => `${many ? `${model}: ` : ''}${showViolation(violation)}`,
      ),
    );
  }

  #weighted(of: (goals: ModelGoals) => number): number {
    return this.models.reduce((sum, goals) => sum + (goals.weight / this.#total) * of(goals), 0);
  }
}
