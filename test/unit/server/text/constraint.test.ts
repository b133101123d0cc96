import { describe, expect, it } from 'vitest';
import type { ConstraintSpec } from '../../../../server/requests/answer-constraint.js';
import { constraintExpression } from '../../../../server/text/constraint/constraint.js';
import { Machine, type State } from '../../../../server/text/constraint/machine.js';
import { TokenGrammar } from '../../../../server/text/constraint/token-masks.js';
import { TokenTrie } from '../../../../server/text/constraint/token-trie.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';
import { idsOf } from '../../../suites/constrained-schemas.suite.js';
import { randomVocabulary } from '../../../support/random-schemas.js';

const reader = (spec: ConstraintSpec): ((text: string) => boolean) => {
  const machine = new Machine(constraintExpression({ spec, behind: null }));
  return (text) => {
    let state: State | null = machine.start;
    for (const byte of Buffer.from(text)) if (state !== null) state = machine.step(state, byte);
    return state?.accepts ?? false;
  };
};

const refused = (spec: ConstraintSpec): string => {
  try {
    constraintExpression({ spec, behind: null });
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

describe('a regular expression', () => {
  const PATTERNS = [
    'a*b+c?',
    '(ab|c){2,3}',
    '[^a-c"]+',
    '\\d{3}-\\d{4}',
    '(?:x|yz)*\\.\\w+',
    '[\\s\\-é]|😀{2}',
    '^a|b$',
    '.{0,3}',
    '(a|ab)(c|bcd)(d*)',
    '(a*)*b',
    '(?<year>20\\d\\d)\\u0041\\x42\\u{1F600}',
    '',
  ];

  it.each(PATTERNS)('%s takes the texts that JavaScript takes', (pattern) => {
    const random = seededRandom(testSeed);
    const takes = reader({ kind: 'regex', pattern });
    const own = new RegExp(`^(?:${pattern.replace(/^\^|\$$/g, '')})$`, 'u');
    const alphabet = [...'aabbccdxyz.-_"é 😀\n0123', 'ab', '20', '2025AB😀', '555-1234'];
    let both = 0;
    for (let round = 0; round < 3000; round++) {
      const text = Array.from({ length: random.integer(0, 6) }, () => random.pick(alphabet)).join('');
      const expected = own.test(text);
      if (expected) both++;
      expect(takes(text), JSON.stringify(text)).toBe(expected);
    }
    expect(both).toBeGreaterThan(0);
  });

  it('is refused with the place where it asks for more', () => {
    const cases: [string, string][] = [
      ['a(?=b)', 'looking ahead or behind, and flags, are not supported (at character 3)'],
      ['(a)\\1', '\\1 is not supported (at character 4)'],
      ['\\bword', '\\b is not supported (at character 1)'],
      ['a^b', '^ is served at the ends of the pattern and of its alternatives only (at character 1)'],
      ['a{200000}', 'a count of 200000, the limit is 100000 (at character 9)'],
      ['[b-a]', 'a range of characters is out of order (at character 4)'],
      ['(a', ') is missing (at character 2)'],
      ['a)', ') is not expected (at character 1)'],
      ['*a', '* is not expected (at character 0)'],
    ];
    for (const [pattern, what] of cases) {
      expect(refused({ kind: 'regex', pattern })).toBe(
        `The regular expression for the answer is not supported: ${what}`,
      );
    }
  });
});

describe('a grammar', () => {
  const SQL = `
    # from vLLM's documentation of guided_grammar
    root ::= select_statement
    select_statement ::= "SELECT " column " from " table " where " condition
    column ::= "col_1 " | "col_2 "
    table ::= "table_1 " | "table_2 "
    condition ::= column "= " number
    number ::= "1 " | "2 "`;

  it('takes its texts, rules in any order', () => {
    const takes = reader({ kind: 'grammar', source: SQL });
    expect(takes('SELECT col_1  from table_2  where col_2 = 1 ')).toBe(true);
    expect(takes('SELECT col_3  from table_2  where col_2 = 1 ')).toBe(false);
    expect(takes('SELECT col_1 ')).toBe(false);
  });

  it('nests without an end, and repeats', () => {
    const takes = reader({
      kind: 'grammar',
      source:
        'root ::= list\nlist ::= "(" (item (", " item)*)? ")"\nitem ::= [a-z]{2,3} | list | \'\\x41\' .',
    });
    expect(takes('(ab, (abc, ()), A!)')).toBe(true);
    expect(takes(`${'('.repeat(500)}${')'.repeat(500)}`)).toBe(true);
    expect(takes('(ab, )')).toBe(false);
    expect(takes('(abcd)')).toBe(false);
  });

  it('is refused with the line or the rule', () => {
    const cases: [string, string][] = [
      ['root ::= a', 'rule a is used and not defined'],
      ['start ::= "a"', 'there is no rule root'],
      ['root ::= root "a" | "a"', 'rule root begins with itself: write it as a repetition'],
      ['root ::= a "x"\na ::= b? root', 'rule b is used and not defined'],
      ['root ::= "a" root', 'no text satisfies it'],
      ['root ::= "a"\nroot ::= "b"', 'rule root is defined twice'],
      ['root ::= "a" )', 'line 1: a rule begins with "name ::="'],
      ['root ::= "a"\n\n%ignore', 'line 3: "%ignore" is not expected'],
    ];
    for (const [source, what] of cases) {
      expect(refused({ kind: 'grammar', source })).toBe(
        `The grammar for the answer is not supported: ${what}`,
      );
    }
  });
});

describe('a JSON schema', () => {
  it('is refused with the place where nothing satisfies it, or what it asks is not served', () => {
    let deep: unknown = { type: 'integer' };
    for (let depth = 0; depth < 80; depth++) deep = { type: 'array', items: deep };
    const object = (properties: object, more: object = {}) => ({ type: 'object', properties, ...more });
    const cases: [unknown, string][] = [
      [deep, `$${'.items'.repeat(64)}: it lies more than 64 schemas deep`],
      [
        object({ a: { type: 'integer', minimum: 5, maximum: 4 } }, { required: ['a'] }),
        '$.properties.a: no value satisfies it',
      ],
      [object({ a: false }, { required: ['a'] }), '$.properties.a: no value satisfies it'],
      [object({ self: { $ref: '#' } }, { required: ['self'] }), '$: no value satisfies it'],
      [{ $ref: '#' }, '$: no value satisfies it'],
      [{ allOf: [{ type: 'string' }, { type: 'integer' }] }, '$: no value satisfies it'],
      [object({ a: { not: {} } }), '$.properties.a.not: is not supported'],
      [
        object({ a: { type: 'array', uniqueItems: true } }),
        '$.properties.a.uniqueItems: is supported only where',
      ],
      [object({ a: { type: 'string', pattern: '(?!x)' } }), '$.properties.a: looking ahead or behind'],
      [
        object({ a: { type: 'string', format: 'iri' } }),
        '$.properties.a.format: "iri" is not supported: date, time',
      ],
      [
        object({}, { required: ['a'], additionalProperties: false }),
        '$: a is required, and no member of that name',
      ],
      [object({ a: { $ref: '#/$defs/none' } }), '$.properties.a.$ref: there is no #/$defs/none'],
      [object({ a: { $ref: 'other.json' } }), '$.properties.a.$ref: other.json is not within the schema'],
      [
        { oneOf: [{ type: 'integer' }, { type: 'number' }] },
        '$.oneOf: alternatives 0 and 1 are not told apart',
      ],
      [object({ a: { type: 'text' } }), '$.properties.a.type: "text" is no type'],
      [
        object({ a: { type: 'number', multipleOf: 0.1 } }),
        '$.properties.a.multipleOf: is supported for whole numbers',
      ],
      [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, '$: rule # begins with itself'],
      [7, '$: must be a schema'],
    ];
    for (const [schema, what] of cases) {
      expect(refused({ kind: 'json-schema', schema })).toContain(
        `The JSON schema for the answer is not supported: ${what}`,
      );
    }
  });

  it('takes what people write: one line, or indented', () => {
    const takes = reader({
      kind: 'json-schema',
      schema: {
        type: 'object',
        properties: { a: { type: 'array', items: { type: 'number' } }, b: { type: 'string' } },
      },
    });
    const value = { a: [1, -2.5, 1e21], b: 'é\n"x"' };
    for (const text of [
      JSON.stringify(value),
      JSON.stringify(value, null, 2),
      JSON.stringify(value, null, '\t'),
    ]) {
      expect(takes(text), text).toBe(true);
    }
    expect(takes('{"a": [1, 2], "b": "x"}')).toBe(true);
    expect(takes('{"b": "x", "a": []}')).toBe(false);
    expect(takes('{"b": "x", "c": 1}')).toBe(false);
  });
});

describe('an answer behind what the model thinks', () => {
  const spec: ConstraintSpec = { kind: 'choice', texts: ['yes', 'no'] };
  const takes = (startsInside: boolean) => {
    const behind = { open: '<think>', close: '</think>', startsInside };
    const machine = new Machine(constraintExpression({ spec, behind }));
    return (text: string): boolean => {
      let state: State | null = machine.start;
      for (const byte of Buffer.from(text)) if (state !== null) state = machine.step(state, byte);
      return state?.accepts ?? false;
    };
  };

  it('is constrained, what it thinks is not', () => {
    const inside = takes(true);
    expect(inside('hm, {"a"} </thin</think>\n\nyes')).toBe(true);
    expect(inside('<think>hm</think>no')).toBe(true);
    expect(inside('yes')).toBe(false);
    expect(inside('hm</think>maybe')).toBe(false);
    const outside = takes(false);
    expect(outside('<think>\nhm\n</think>\n\nyes')).toBe(true);
    expect(outside('yes')).toBe(true);
    expect(outside('hm</think>yes')).toBe(false);
  });
});

describe('a mask', () => {
  const random = seededRandom(testSeed);
  const tokens = [...randomVocabulary(random, 600), Buffer.from('"name": "'), Buffer.from('"name": "')];
  const trie = new TokenTrie(tokens);
  const endId = tokens.length;
  const specs: ConstraintSpec[] = [
    { kind: 'json-object' },
    { kind: 'choice', texts: ['positive', 'negative', 'pos'] },
    { kind: 'regex', pattern: '[a-z" :]{3,900}!' },
    {
      kind: 'json-schema',
      schema: {
        type: 'object',
        properties: { name: { type: 'string', minLength: 700, maxLength: 800 } },
        required: ['name'],
      },
    },
  ];

  it.each(specs)('has the tokens that follow, one by one: $kind', (spec) => {
    const grammar = new TokenGrammar({ spec, behind: null }, trie, endId + 1, [endId]);
    let state = grammar.start;
    for (let step = 0; step < 60; step++) {
      const allowed = idsOf(grammar.mask(state));
      const expected = tokens.flatMap((_, id) => (grammar.after(state, id) === null ? [] : [id]));
      if (grammar.isEnd(state, endId)) expected.push(endId);
      expect(allowed).toEqual(expected);
      const id = random.pick(allowed);
      if (id === endId) break;
      state = grammar.after(state, id)!;
    }
  });

  it('of a text with a long way to go is the one it was a token before', () => {
    const grammar = new TokenGrammar({ spec: specs[3]!, behind: null }, trie, endId + 1, [endId]);
    let state = grammar.start;
    for (const byte of Buffer.from('{"name":"ab')) state = grammar.after(state, byte)!;
    const before = grammar.mask(state);
    expect(grammar.mask(grammar.after(state, 0x63)!)).toBe(before);
  });
});
