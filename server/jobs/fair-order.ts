/**
 * Whose job is next, where jobs of several keys wait: each key starts as many as its weight says, however many it has waiting.
 *
 * In      waiting jobs in the order that each key's own have among themselves; the jobs that were taken
 * Out     one order over all
 * Limits  an entry a key that waits, or has started more than its share lately
 * Source  start-time fair queueing (Goyal, Vin, Cheng 1996), a job as the unit: virtual time is the tag of the job that was taken last; a
 *         key that was idle starts at it, so that nobody saves up starts, and nobody pays for having used what no one else wanted
 * Pure
 */
import type { Tenant } from '../requests/addressed-request.js';

interface Owned {
  readonly request: { readonly tenant?: Tenant };
}

const idOf = ({ request }: Owned): string => request.tenant?.id ?? '';
const turnOf = ({ request }: Owned): number => 1 / (request.tenant?.weight ?? 1);

export class FairOrder<J extends Owned> {
  #now = 0;
  /** When, in virtual time, the next job of a key may start at the earliest. */
  readonly #next = new Map<string, number>();

  /** @param jobs each key's own in order; left as it is */
  arranged(jobs: readonly J[]): J[] {
    if (jobs.every((job) => idOf(job) === idOf(jobs[0]!))) return [...jobs];
    const next = new Map(this.#next);
    const tagged = jobs.map((job) => {
      const tag = Math.max(this.#now, next.get(idOf(job)) ?? 0);
      next.set(idOf(job), tag + turnOf(job));
      return { job, tag };
    });
    return tagged.sort((a, b) => a.tag - b.tag).map(({ job }) => job);
  }

  /** A job leaves for a slot: the first of its key. */
  taken(job: J): void {
    const tag = Math.max(this.#now, this.#next.get(idOf(job)) ?? 0);
    this.#now = tag;
    this.#next.set(idOf(job), tag + turnOf(job));
    for (const [id, at] of this.#next) if (at <= tag) this.#next.delete(id);
  }
}
