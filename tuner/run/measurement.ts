/**
 * One measurement: a configuration under a load, and what came of it. What the journal keeps.
 *
 * In      settings by name; a load; which repeat
 * Out     its key: the same question has the same key, whenever it is asked
 */
import { createHash } from 'node:crypto';
import type { Settings } from '../space/space.js';
import type { Figures } from '../units/metrics.js';

/** Clients at once, requests a second, or the trace as it is. */
export interface LoadPoint {
  kind: 'concurrency' | 'rate' | 'trace';
  value: number;
}

export interface Question {
  /** {}: the server's own defaults. */
  settings: Settings;
  load: LoadPoint;
  /** 0: of the search; then the repeats that compare. */
  round: number;
}

export interface ModelFigures {
  figures: Figures;
  errors: Record<string, number>;
  windows: number;
  is_stable: boolean;
  spread: number;
  unfinished: number;
  /** The windows that count, for who wants to see how they agree. */
  window_throughputs_per_s: number[];
}

/** Time of a rank in steps while it was measured, by part. */
export interface RankProfile {
  model: string;
  group: string;
  rank: string;
  steps: number;
  compute_ms: number;
  collective_ms: number;
  choose_ms: number;
  /** The rest of the measured time: waiting for work. */
  idle_ms: number;
}

export interface MeasurementBody {
  outcome: 'measured' | 'infeasible';
  /** Why it could not be served; null: it was. */
  reason: string | null;
  models: Record<string, ModelFigures>;
  warnings: string[];
  profile: RankProfile[] | null;
  took_ms: number;
}

export interface Measurement extends Question, MeasurementBody {
  key: string;
  at: string;
}

export type Measure = (question: Question) => Promise<MeasurementBody>;

export function questionKey({ load, round, settings }: Question): string {
  const sorted = Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([sorted, load.kind, load.value, round]);
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}

export const settingsKey = (settings: Settings): string =>
  questionKey({ settings, load: { kind: 'trace', value: 0 }, round: 0 });
