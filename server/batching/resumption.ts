/**
 * Whether a job goes on after its group has died, and who is to be tried alone.
 *
 * In      the job, what the group died of, how much the job had told, whether a step with it was in flight
 * Out     true: it waits for a slot again, and its prompt and the tokens it has told are computed anew. Which token follows depends on
 *         them, the seed and the position alone, so the text is the one that an undisturbed run gives
 * Limits  `retries` deaths in a row at one place: fewer than PLACE_TOKENS tokens further than at the one before; `mostDeaths` in all
 * Errors  false: it has ended with the group's error, and says so where it was in too many deaths: one that kills every group that
 *         runs it must not take the service down
 *
 * Only what was in a step that had not come back is blamed, and nobody for what came from outside: where steps follow each other
 * without a pause, a kill by hand always meets one. One with a single death left is a suspect: it steps alone until it is
 * further, so that nobody is blamed for it, nor it for others.
 */
import { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';

/** A prompt tells a token, and a step or two more may have come back before the one that kills: that is not to have got further. */
export const PLACE_TOKENS = 8;

/** Deaths that a job survives. */
export interface DeathLimits {
  /** In a row, at one place. */
  retries: number;
  /** In all. */
  mostDeaths: number;
}

export interface Life {
  /** In all lives. */
  newTokens: number;
  /** A step with it was in flight. */
  ran: boolean;
}

/** One request alone may be in half of the deaths that a model survives. */
export const deathLimits = (retries: number, retryThreshold: number): DeathLimits => ({
  retries,
  mostDeaths: retries === 0 ? 0 : Math.max(retries, Math.floor(retryThreshold / 2)),
});

export function goesOn(
  job: GenerationJob,
  error: ServingError,
  { mostDeaths, retries }: DeathLimits,
  { newTokens, ran }: Life,
): boolean {
  if (job.stream.ended) return false;
  job.deaths++;
  if (ran && !error.fromOutside) {
    job.deathsHere = isFurther(job, newTokens) ? 1 : job.deathsHere + 1;
    job.placeTokens = newTokens;
  }
  const tooMany = job.deathsHere > retries || job.deaths > mostDeaths;
  // Stopped on purpose: nobody waits for another group.
  if (error.code !== 'SHUTTING_DOWN' && !tooMany) return true;
  job.cancel(retries > 0 && tooMany ? tooOften(job, error) : error);
  return false;
}

/** Another death at this place would end it. */
export const isSuspect = (job: GenerationJob, newTokens: number, retries: number): boolean =>
  retries > 0 && job.deathsHere >= retries && !isFurther(job, newTokens);

/** It has ended for its deaths at one place, in the last of which it stepped alone. */
export const isToBlame = ({ deathsHere }: GenerationJob, { retries }: DeathLimits): boolean =>
  retries > 0 && deathsHere > retries;

const isFurther = (job: GenerationJob, newTokens: number): boolean =>
  newTokens - job.placeTokens >= PLACE_TOKENS;

function tooOften({ deaths }: GenerationJob, error: ServingError): ServingError {
  return new ServingError(
    error.code,
    `${error.message}; the request ran in ${deaths} worker groups that died, and is not tried again (option.request_retries)`,
    { cause: error },
  );
}
