/**
 * Whether a job goes on after its group has died.
 *
 * In      the job, what the group died of, deaths that a job survives
 * Out     true: it waits for a slot again, and its prompt and the tokens it has told are computed anew. Which token follows depends on
 *         them, the seed and the position alone, so the text is the one that an undisturbed run gives
 * Errors  false: it has ended with the group's error, and says so where it was in too many deaths: one that kills every group that
 *         runs it must not take the service down
 */
import { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';

export function goesOn(job: GenerationJob, error: ServingError, retries: number): boolean {
  if (job.stream.ended) return false;
  job.deaths++;
  // Stopped on purpose: nobody waits for another group.
  if (error.code !== 'SHUTTING_DOWN' && job.deaths <= retries) return true;
  job.cancel(retries === 0 || job.deaths <= retries ? error : tooOften(job.deaths, error));
  return false;
}

function tooOften(deaths: number, error: ServingError): ServingError {
  return new ServingError(
    error.code,
    `${error.message}; the request ran in ${deaths} worker groups that died, and is not tried again (option.request_retries)`,
    { cause: error },
  );
}
