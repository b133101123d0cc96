/** Which answers of a simulation have a form, and masks for them that come at once, soon or late. */
import type { TokenConstraint } from '../../server/jobs/generation-job.js';
import type { SeededRandom } from '../fixtures/seeded-random.js';
import { fakeToken } from '../support/fake-rank.js';

/** The server and the ranks must not agree on it by what they tell each other. */
export const hasForm = (promptIds: readonly number[]): boolean =>
  promptIds.reduce((sum, id) => sum + id, promptIds.length) % 5 < 2;

/** Only the token that a rank chooses anyway is allowed. Some masks are known, most are there soon, some later than a step waits. */
export function constraintOf(
  promptIds: readonly number[],
  told: number,
  random: SeededRandom,
): TokenConstraint {
  const maskOf = (newTokens: number) => ({
    ids: [fakeToken(promptIds, told + newTokens)],
    bits: new Uint8Array(),
  });
  // One that was asked for before its group died may still be on its way when the next life asks.
  const timers = new Set<NodeJS.Timeout>();
  return {
    first: maskOf(0),
    maskAfter: (newIds) => {
      if (random.next() < 0.3) return maskOf(newIds.length);
      return new Promise((resolve) => {
        const ms = random.next() * (random.next() < 0.1 ? 300 : 6);
        timers.add(setTimeout(() => resolve(maskOf(newIds.length)), ms));
      });
    },
    release: () => {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}
