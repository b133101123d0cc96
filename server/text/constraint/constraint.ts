/**
 * What a client asks of an answer's form → the texts that it may be.
 *
 * In      AnswerConstraint: plain data
 * Out     Expression
 * Limits  those of each kind; MAX_CHOICES texts
 * Errors  BAD_REQUEST naming kind and place
 */
import { ServingError } from '../../../proto/errors.js';
import type { AnswerConstraint, ConstraintSpec } from '../../requests/answer-constraint.js';
import { ebnfExpression } from './ebnf.js';
import { bytes, choice, type Expression, literal, optional, repeat, sequence } from './expression.js';
import { difference } from './finite.js';
import { checkedGrammar, GrammarFault } from './grammar.js';
import { schemaExpression } from './json-schema.js';
import { anyValue } from './json-text.js';
import { ConstraintLimit } from './machine.js';
import { RegexFault, regexExpression } from './regex.js';
import { SchemaFault } from './schema-merge.js';

const MAX_CHOICES = 10_000;

const NAMES: Readonly<Record<ConstraintSpec['kind'], string>> = {
  'json-object': 'JSON object',
  'json-schema': 'JSON schema',
  regex: 'regular expression',
  choice: 'list of choices',
  grammar: 'grammar',
};

/** @throws ServingError BAD_REQUEST */
export function constraintExpression({ behind, spec }: AnswerConstraint): Expression {
  try {
    const own = expressionOf(spec);
    const checked = checkedGrammar(behind === null ? own : afterThinking(own, behind));
    if (checked === null) throw new GrammarFault('no text satisfies it');
    return checked;
  } catch (error) {
    throw refusal(spec, error);
  }
}

/** What a fault of the grammar is to its sender. */
export function refusal(spec: ConstraintSpec, error: unknown): unknown {
  const isFault =
    error instanceof SchemaFault ||
    error instanceof GrammarFault ||
    error instanceof RegexFault ||
    error instanceof ConstraintLimit;
  // JavaScript's stack: parts that may be empty, thousands of them in a row.
  const isTooDeep = error instanceof RangeError;
  if (!isFault && !isTooDeep) return error;
  const what = isTooDeep ? 'it nests too deep' : error.message;
  return new ServingError('BAD_REQUEST', `The ${NAMES[spec.kind]} for the answer is not supported: ${what}`);
}

/** First what it thinks, which is free but for the marker that ends it. */
function afterThinking(
  answer: Expression,
  { close, open, startsInside }: NonNullable<AnswerConstraint['behind']>,
): Expression {
  const anything = repeat(bytes([0, 0xff]), 0);
  const thought = difference(anything, sequence(anything, literal(close), anything));
  const space = repeat(bytes([0x0a, 0x0a], [0x20, 0x20]), 0, 4);
  const behind = sequence(thought, literal(close), space, answer);
  return choice(
    sequence(startsInside ? optional(literal(open)) : literal(open), behind),
    startsInside ? behind : answer,
  );
}

function expressionOf(spec: ConstraintSpec): Expression {
  switch (spec.kind) {
    case 'json-object':
      return anyValue().object;
    case 'json-schema':
      return schemaExpression(spec.schema);
    case 'regex':
      return regexExpression(spec.pattern, { whole: true });
    case 'grammar':
      return ebnfExpression(spec.source);
    case 'choice':
      if (spec.texts.length > MAX_CHOICES) {
        throw new ConstraintLimit(`${spec.texts.length} texts, the limit is ${MAX_CHOICES}`);
      }
      return choice(...spec.texts.map((text) => literal(text)));
  }
}
