/**
 * How much better one configuration is than another, over several objectives and models.
 *
 * In      figures of both; weights
 * Out     the weighted sum of relative differences, more is better; 0: alike
 * Source  Model Analyzer's comparator: w · (a − b) / mean(a, b), weights normalised, then the models' weights. A metric that one of both
 *         lacks counts nothing, and the others keep their weights (there a missing GPU metric made every score 0)
 */
import { type Figures, METRICS, type Metric } from '../units/metrics.js';

export interface Objective {
  metric: Metric;
  weight: number;
}

export function score(a: Figures, b: Figures, objectives: readonly Objective[]): number {
  const known = objectives.filter(({ metric }) => a[metric] !== null && b[metric] !== null);
  const total = known.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return 0;
  return known.reduce((sum, { metric, weight }) => {
    const difference = relative(a[metric] as number, b[metric] as number);
    return sum + (weight / total) * (METRICS[metric].better === 'more' ? difference : -difference);
  }, 0);
}

const relative = (a: number, b: number): number =>
  a === b ? 0 : (a - b) / ((Math.abs(a) + Math.abs(b)) / 2);

/** The gain people read: of the old value where more is better, of the new one where less is, as Model Analyzer prints it. */
export function percentGain(a: Figures, b: Figures, objectives: readonly Objective[]): number | null {
  const known = objectives.filter(({ metric }) => a[metric] !== null && b[metric] !== null);
  const total = known.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return null;
  return known.reduce((sum, { metric, weight }) => {
    const [ours, theirs] = [a[metric] as number, b[metric] as number];
    const gain = METRICS[metric].better === 'more' ? (ours - theirs) / theirs : (theirs - ours) / ours;
    return sum + (weight / total) * 100 * gain;
  }, 0);
}
