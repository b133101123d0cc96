/**
 * Which configuration won, if one did: the repeats of the best few and of the default, side by side.
 *
 * In      the repeats, in rounds: each round measured every candidate and the default once, in turns
 * Out     of each candidate how much better it is than the default, with an interval; the winner, or in words why there is none
 * How     a round's score is of two neighbours in time, so that a slow hour of the machine meets both. Student's t over the rounds; the level
 *         is divided by the number of candidates, since the best of three looks better than it is (Bonferroni)
 * Limits  a winner's interval must lie above leastGain altogether
 */
import type { Measurement } from '../run/measurement.js';
import { type Interval, studentInterval } from '../statistics/student.js';
import type { Goals } from './goals.js';

export interface Candidate {
  name: string;
  /** A measurement a round, in the order of the rounds. */
  repeats: readonly Measurement[];
}

export interface Compared {
  name: string;
  /** The score's beside the default; null: too few rounds in which both were measured. */
  gain: Interval | null;
  /** As people say it, the mean of the rounds. */
  percent: number | null;
  passed: number;
  rounds: number;
}

export interface Verdict {
  compared: Compared[];
  /** How many of the default's repeats did; null when it could not be served. */
  defaultPassed: number | null;
  /** The default meets the constraints: in more than half of its repeats, since it is only what others are held against. */
  defaultHolds: boolean;
  winner: string | null;
  /** Why there is a winner, or none. */
  sentence: string;
}

export interface VerdictOptions {
  level: number;
  leastGain: number;
}

export function verdict(
  candidates: readonly Candidate[],
  base: Candidate,
  goals: Goals,
  { leastGain, level }: VerdictOptions,
): Verdict {
  const each = 1 - (1 - level) / Math.max(1, candidates.length);
  const compared = candidates.map((candidate) => compare(candidate, base, goals, each));
  const served = base.repeats.filter(({ outcome }) => outcome === 'measured');
  const defaultPassed = served.length === 0 ? null : served.filter((one) => goals.passes(one)).length;
  const defaultHolds = defaultPassed !== null && 2 * defaultPassed > base.repeats.length;
  const done = (winner: string | null, sentence: string): Verdict => ({
    compared,
    defaultPassed,
    defaultHolds,
    winner,
    sentence,
  });
  const passing = compared.filter(({ passed, rounds }) => rounds > 0 && passed === rounds);
  if (passing.length === 0) {
    return done(null, 'No configuration met the constraints in every repeat.');
  }
  if (!defaultHolds) {
    const best = passing.reduce((one, other) =>
      (other.gain?.mean ?? 0) > (one.gain?.mean ?? 0) ? other : one,
    );
    const why =
      defaultPassed === null
        ? `could not be served (${goals.failures(base.repeats[0]!).join('; ')})`
        : `does not meet the constraints (${goals.failures(served.find((one) => !goals.passes(one))!).join('; ')})`;
    return done(best.name, `${best.name} meets the constraints; the default ${why}.`);
  }
  const best = passing.reduce((one, other) =>
    (other.gain?.mean ?? 0) > (one.gain?.mean ?? 0) ? other : one,
  );
  if (best.gain !== null && best.gain.low > leastGain) {
    return done(best.name, `${best.name} is better than the default: ${showGain(best, level)}.`);
  }
  return done(
    null,
    best.gain === null || !Number.isFinite(best.gain.low)
      ? `No winner: there are too few repeats to tell ${best.name} from the default.`
      : `No winner: ${best.name}, the best, is within noise of the default (${showGain(best, level)}).`,
  );
}

function compare(candidate: Candidate, base: Candidate, goals: Goals, level: number): Compared {
  const pairs = candidate.repeats.flatMap((ours, round) => {
    const theirs = base.repeats[round];
    return ours.outcome === 'measured' && theirs?.outcome === 'measured' ? [{ ours, theirs }] : [];
  });
  const percents = pairs.map(({ ours, theirs }) => goals.percentGain(ours, theirs));
  return {
    name: candidate.name,
    gain:
      pairs.length < 2
        ? null
        : studentInterval(
            pairs.map(({ ours, theirs }) => goals.score(ours, theirs)),
            level,
          ),
    percent: pairs.length === 0 ? null : percents.reduce((sum, one) => sum + one, 0) / percents.length,
    passed: candidate.repeats.filter((one) => goals.passes(one)).length,
    rounds: candidate.repeats.length,
  };
}

/** "+12.3 % (95 % interval of the score: 8.1 to 15.2 %, 5 repeats)". */
function showGain({ gain, percent, rounds }: Compared, level: number): string {
  const signed = (value: number): string => `${value >= 0 ? '+' : ''}${value.toFixed(1)}`;
  const range = gain === null ? '' : `${signed(100 * gain.low)} to ${signed(100 * gain.high)} %`;
  return `${signed(percent ?? 0)} %, ${100 * level} % interval of the score ${range}, ${rounds} repeats`;
}
