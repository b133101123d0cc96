/** Every key of every golden's config.json changed by itself: computed as by transformers, or refused. */
import { describe, expect, it } from 'vitest';
import { nameOf, outcomeOf, readMutations } from '../suites/mutations.suite.js';

describe('a key of config.json changed by itself', () => {
  it.each(readMutations().map((mutation) => [nameOf(mutation), mutation] as const))(
    '%s is computed as by transformers, or refused',
    async (_, mutation) => {
      expect(await outcomeOf(mutation)).toMatch(/^(?:as transformers|refused: )/);
    },
  );
});
