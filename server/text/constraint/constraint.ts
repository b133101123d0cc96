/**
 * What a client asks of an answer's form → the texts that it may be.
 *
 * In      ConstraintSpec: plain data
 * Out     Expression
 * Limits  those of each kind; MAX_CHOICES texts
 * Errors  BAD_REQUEST naming kind and place
 */
import { ServingError } from '../../../proto/errors.js';
import { ebnfExpression } from './ebnf.js';
import { choice, type Expression, literal } from './expression.js';
import { checkedGrammar, GrammarFault } from './grammar.js';
import { schemaExpression } from './json-schema.js';
import { anyValue } from './json-text.js';
import { ConstraintLimit } from './machine.js';
import { RegexFault, regexExpression } from './regex.js';
import { SchemaFault } from './schema-merge.js';

const MAX_CHOICES = 10_000;

export type ConstraintSpec =
  | { kind: 'json-object' }
  | { kind: 'json-schema'; schema: unknown }
  | { kind: 'regex'; pattern: string }
  | { kind: 'choice'; texts: readonly string[] }
  | { kind: 'grammar'; source: string };

const NAMES: Readonly<Record<ConstraintSpec['kind'], string>> = {
  'json-object': 'JSON object',
  'json-schema': 'JSON schema',
  regex: 'regular expression',
  choice: 'list of choices',
  grammar: 'grammar',
};

/** @throws ServingError BAD_REQUEST */
export function constraintExpression(spec: ConstraintSpec): Expression {
  try {
    const checked = checkedGrammar(expressionOf(spec));
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
  if (!isFault) return error;
  return new ServingError(
    'BAD_REQUEST',
    `The ${NAMES[spec.kind]} for the answer is not supported: ${error.message}`,
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
