/** option.speculative_config: vLLM's names and defaults; what is not served is refused by its name. */
import { describe, expect, it } from 'vitest';
import { SPECULATION_KEYS } from '../../../../server/config/speculation-keys.js';

const [row] = SPECULATION_KEYS;
const parse = (given: unknown) => {
  const { status } = row!;
  if (status.kind !== 'works') return expect.fail('a key that works');
  return status.type.parse(typeof given === 'string' ? given : JSON.stringify(given), '');
};

describe('option.speculative_config', () => {
  it('has defaults, and one of the two lengths stands for the other', () => {
    expect(parse('')).toEqual({ value: null });
    expect(parse({ method: 'ngram' })).toEqual({ value: { tokens: 4, shortest: 5, longest: 5 } });
    expect(parse({ method: 'ngram', num_speculative_tokens: 3, prompt_lookup_max: 4 })).toEqual({
      value: { tokens: 3, shortest: 4, longest: 4 },
    });
    expect(parse({ method: '[ngram]', prompt_lookup_min: 2 })).toEqual({
      value: { tokens: 4, shortest: 2, longest: 2 },
    });
    expect(parse({ method: 'ngram', prompt_lookup_min: 2, prompt_lookup_max: 6 })).toEqual({
      value: { tokens: 4, shortest: 2, longest: 6 },
    });
  });

  it.each([
    ['no JSON', 'ngram', undefined],
    ['no object', '[1]', undefined],
    [
      'a second model',
      { method: 'eagle' },
      'its method must be "ngram": no second model guesses in this version',
    ],
    ['no method', {}, 'its method must be "ngram"'],
    ['an unknown name', { method: 'ngram', model: 'x' }, 'model is not served'],
    ['too many', { method: 'ngram', num_speculative_tokens: 17 }, 'a whole number from 1 to 16'],
    ['min above max', { method: 'ngram', prompt_lookup_min: 5, prompt_lookup_max: 4 }, '1 ≤ min ≤ max ≤ 32'],
  ])('refuses %s', (_, given, sentence) => {
    const outcome = parse(given);
    expect(outcome).toMatchObject({ problem: true });
    if (sentence !== undefined)
      expect(outcome).toMatchObject({ sentence: expect.stringContaining(sentence) });
  });
});
