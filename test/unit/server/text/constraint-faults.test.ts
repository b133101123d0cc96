/** Constraints that are none: each once ended in an error of JavaScript's, found by the fuzzer. */
import { expect, it } from 'vitest';
import { constraintExpression } from '../../../../server/text/constraint/constraint.js';

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
