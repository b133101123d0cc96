/**
 * Random schemas × random models: what a mask lets through is valid JSON of the schema, by another validator.
 *
 * In      how many schemas
 * Out     a describe block. A "model" is a random choice among the allowed tokens, which now and then prefers what ends a text
 */
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { describe, expect, it } from 'vitest';
import type { ServingError } from '../../proto/errors.js';
import { constraintExpression } from '../../server/text/constraint/constraint.js';
import { TokenGrammar } from '../../server/text/constraint/token-masks.js';
import { TokenTrie } from '../../server/text/constraint/token-trie.js';
import { type SeededRandom, seededRandom, testSeed } from '../fixtures/seeded-random.js';
import { contradictorySchema } from '../support/contradictory-schemas.js';
import { randomSchema, randomVocabulary } from '../support/random-schemas.js';

const MAX_TOKENS = 4000;
const VOCABULARY = 1024;

export function constrainedSchemas(count: number): void {
  describe(`constrained answers (seed ${testSeed})`, () => {
    it(`${count} random schemas: every answer is valid`, { timeout: 60_000 + count * 100 }, () => {
      const random = seededRandom(testSeed);
      const ajv = new Ajv2020({ strict: false, allErrors: true });
      addFormats.default(ajv);
      let ended = 0;
      let trie = new TokenTrie(randomVocabulary(random, VOCABULARY));
      for (let round = 0; round < count; round++) {
        if (round % 50 === 0) trie = new TokenTrie(randomVocabulary(random, VOCABULARY));
        const schema = randomSchema(random);
        const shown = JSON.stringify(schema);
        const grammar = new TokenGrammar(
          { spec: { kind: 'json-schema', schema }, behind: null },
          trie,
          VOCABULARY + 1,
          [VOCABULARY],
        );
        const text = writeText(grammar, trie, random, shown);
        if (text === null) continue;
        ended++;
        const value: unknown = JSON.parse(text);
        expect(ajv.validate(schema as object, value), `${shown}\n${text}\n${ajv.errorsText()}`).toBe(true);
      }
      // The rest wrote on until their tokens ended.
      expect(ended).toBeGreaterThan(count * 0.95);
    });

    it(`${count} schemas that contradict themselves: each is refused, with the place`, {
      timeout: 60_000 + count * 20,
    }, () => {
      const random = seededRandom(testSeed);
      for (let round = 0; round < count; round++) {
        const { place, schema } = contradictorySchema(random);
        const told = refusalOf(schema);
        expect(told, JSON.stringify(schema)).toMatchObject({
          code: 'BAD_REQUEST',
          message: expect.stringMatching(
            /^The JSON schema for the answer is not supported: \$\S*: (?:no value satisfies it|\w+ is required, and no member of that name is allowed|rule .* begins with itself)/,
          ),
        });
        const [, at] = /: (\$\S*): /.exec((told as ServingError).message)!;
        expect(at!.startsWith(place), `${JSON.stringify(schema)}\n${at}, not ${place}`).toBe(true);
      }
    });
  });
}

/** null: it was not refused. */
function refusalOf(schema: unknown): unknown {
  try {
    constraintExpression({ spec: { kind: 'json-schema', schema }, behind: null });
    return null;
  } catch (error) {
    return error;
  }
}

/** null: it did not end. */
function writeText(
  grammar: TokenGrammar,
  trie: TokenTrie,
  random: SeededRandom,
  shown: string,
): string | null {
  const bytes: number[] = [];
  let state = grammar.start;
  for (let tokens = 0; tokens < MAX_TOKENS; tokens++) {
    const allowed = idsOf(grammar.mask(state));
    expect(allowed.length, `${shown}\n${Buffer.from(bytes)}: no token is allowed`).toBeGreaterThan(0);
    const closing = random.next() < 0.2 ? allowed.filter((id) => closes(trie, id)) : [];
    const id = random.pick(closing.length > 0 ? closing : allowed);
    if (id === VOCABULARY) {
      expect(grammar.isEnd(state, id)).toBe(true);
      return Buffer.from(bytes).toString();
    }
    const next = grammar.after(state, id);
    expect(next, `${shown}\n${Buffer.from(bytes)}: an allowed token does not follow`).not.toBeNull();
    state = next!;
    bytes.push(...trie.bytesOf(id)!);
  }
  return null;
}

const closes = (trie: TokenTrie, id: number): boolean => {
  const bytes = trie.bytesOf(id);
  return bytes === null || (bytes.length === 1 && [0x22, 0x5d, 0x7d].includes(bytes[0]!));
};

export function idsOf(mask: Uint32Array): number[] {
  const ids: number[] = [];
  mask.forEach((word, at) => {
    for (let bits = word; bits !== 0; bits &= bits - 1) ids.push(at * 32 + (31 - Math.clz32(bits & -bits)));
  });
  return ids;
}
