/** Constraints that are none: each once ended in an error of JavaScript's, found by the fuzzer. */
import { describe, expect, it } from 'vitest';
import { constraintExpression } from '../../../../server/text/constraint/constraint.js';
import { bytes, literal, repeat } from '../../../../server/text/constraint/expression.js';
import { checkCounted } from '../../../../server/text/constraint/finite.js';

const schemaOf = (schema: unknown) =>
  constraintExpression({ spec: { kind: 'json-schema', schema }, behind: null });
const object = { type: 'object', properties: { a: { type: 'string' } } };
const odd = { toString: null, valueOf: null };

it.each<[string, unknown, string]>([
  [
    'required that is no list, beside another',
    {
      allOf: [
        { ...object, required: ['a'] },
        { ...object, required: 5 },
      ],
    },
    'required: must be a list',
  ],
  [
    'anyOf that is no list, beside another',
    { allOf: [{ anyOf: [{ type: 'string' }] }, { anyOf: { a: 1 } }] },
    'anyOf: must be a list',
  ],
  [
    'enum that is no list, beside another',
    { allOf: [{ enum: ['a'] }, { enum: 'a' }] },
    'enum: must be a list',
  ],
  [
    'a limit that is no number, beside another',
    {
      allOf: [
        { type: 'string', minLength: 1 },
        { type: 'string', minLength: odd },
      ],
    },
    'minLength: must be a number',
  ],
  ['a reference with a stray %', { $ref: '#/$defs/%E0' }, '$ref: #/$defs/%E0 is no reference'],
  ['a keyword that every object answers to', { enum: ['a'], toString: 'a' }, 'toString beside an enum'],
  [
    'a pattern that is none',
    { enum: ['a'], type: 'string', pattern: '[' },
    'pattern: is no regular expression',
  ],
])('%s is refused with its place', (_what, schema, sentence) => {
  expect(() => schemaOf(schema)).toThrow(expect.objectContaining({ code: 'BAD_REQUEST' }));
  expect(() => schemaOf(schema)).toThrow(sentence);
});

it('a length that is no number says nothing of the values of an enum', () => {
  expect(() => schemaOf({ enum: ['a'], type: 'string', minLength: odd })).not.toThrow(TypeError);
});

describe('a length of more characters than an automaton may have states', () => {
  const letters = repeat(bytes([0x61, 0x66]), 0);

  it('is refused before they are made, where texts may be of any length', () => {
    expect(() => checkCounted(letters, 20_001)).toThrow(/an automaton of more than 20000 states/);
    checkCounted(letters, 20_000);
    checkCounted(repeat(letters, 0, 0), 1_000_000_000);
    checkCounted(literal('abc'), 1_000_000_000);
  });

  it.each([
    ['^[a-f]*$', { maxLength: 1_000_000_000 }, true],
    ['^[a-f]*$', { minLength: 65_536 }, true],
    ['^(?:ab|c){1,3}$', { maxLength: 1_000_000_000 }, false],
    ['^[a-f]*$', { maxLength: 100 }, false],
  ])('of %s with %j: refused is %s', (pattern, length, isRefused) => {
    const make = () => schemaOf({ type: 'string', pattern, ...length });
    if (isRefused) expect(make).toThrow(/an automaton of more than 20000 states/);
    else make();
  });
});
