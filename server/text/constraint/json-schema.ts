/**
 * A JSON schema → the JSON texts that an answer may be.
 *
 * In      a schema of draft 7 … 2020-12, parsed
 * Out     Expression: every text of it is valid JSON that satisfies the schema. Not every valid value is among them: members come in the order of
 *         the schema, objects that describe members have no others unless additionalProperties says so, numbers have at most 20 digits
 * Limits  MAX_DEPTH schemas within another; those of regex.ts and finite.ts
 * Errors  SchemaFault naming the place: a keyword that would be ignored is refused, so is a schema that nothing satisfies
 * Source  JSON Schema core and validation 2020-12
 */
import { isDeepStrictEqual } from 'node:util';
import {
  choice,
  type Expression,
  isNever,
  literal,
  NEVER,
  type Rule,
  repeat,
  rule,
  sequence,
} from './expression.js';
import { checkCounted, difference, intersection, multiplesOf } from './finite.js';
import { FORMAT_NAMES, formatPattern } from './formats.js';
import { checkedGrammar, GrammarFault } from './grammar.js';
import {
  ANY_INTEGER,
  ANY_NUMBER,
  anyString,
  anyValue,
  BOOLEAN,
  NULL,
  quoted,
  writtenCharacters,
} from './json-text.js';
import { ConstraintLimit } from './machine.js';
import { type Bounds, integersWithin, isUnbounded, numbersWithin } from './number-range.js';
import { RegexFault, regexExpression } from './regex.js';
import { type Compile, countOf, listExpression, objectExpression } from './schema-containers.js';
import { isAnnotation, isSchema, mergeSchemas, type Schema, SchemaFault, typesOf } from './schema-merge.js';
import { accepts, exclude } from './schema-values.js';

const MAX_DEPTH = 64;
const MAX_MULTIPLE = 1000;
const TYPES = ['object', 'array', 'string', 'integer', 'number', 'boolean', 'null'];
const UNSUPPORTED = [
  'not',
  'if',
  'then',
  'else',
  'dependencies',
  'dependentRequired',
  'dependentSchemas',
  'contains',
  'minContains',
  'maxContains',
  'unevaluatedItems',
  '$dynamicRef',
  '$recursiveRef',
];
/** Keyword → the type it speaks of. */
const SPEAKS_OF: Readonly<Record<string, string>> = {
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  patternProperties: 'object',
  propertyNames: 'object',
  minProperties: 'object',
  maxProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  uniqueItems: 'array',
  pattern: 'string',
  format: 'string',
  minLength: 'string',
  maxLength: 'string',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
  multipleOf: 'number',
};

/** @throws SchemaFault */
export function schemaExpression(schema: unknown): Expression {
  const compiler = new Compiler(schema);
  try {
    const checked = checkedGrammar(compiler.schema(schema, '$'));
    if (checked !== null) return checked;
  } catch (error) {
    if (error instanceof GrammarFault || error instanceof ConstraintLimit)
      throw new SchemaFault('$', error.message);
    throw error;
  }
  throw new SchemaFault(compiler.firstContradiction ?? '$', 'no value satisfies it');
}

class Compiler {
  /** Where no value is left, the innermost first. */
  firstContradiction: string | null = null;
  readonly #root: unknown;
  readonly #rules = new Map<string, Rule>();
  readonly #any = anyValue();
  #depth = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  readonly schema: Compile = (schema, place, mayBeNone = false) => {
    const before = this.firstContradiction;
    if (!isSchema(schema)) throw new SchemaFault(place, 'must be a schema: an object, true or false');
    if (this.#depth >= MAX_DEPTH) {
      throw new SchemaFault(place, `it lies more than ${MAX_DEPTH} schemas deep`);
    }
    this.#depth++;
    try {
      const expression =
        schema === true ? this.#any.value : schema === false ? NEVER : this.#object(schema, place);
      if (isNever(expression)) this.firstContradiction ??= place;
      // What is told is why there is none at all: of this there is a value, or it may be left out.
      if (mayBeNone || !isNever(expression)) this.firstContradiction = before;
      return expression;
    } catch (error) {
      if (error instanceof ConstraintLimit || error instanceof RegexFault)
        throw new SchemaFault(place, error.message);
      throw error;
    } finally {
      this.#depth--;
    }
  };

  #object(schema: Schema, place: string): Expression {
    for (const keyword of UNSUPPORTED) {
      if (schema[keyword] !== undefined) throw new SchemaFault(`${place}.${keyword}`, 'is not supported');
    }
    const { $ref, ...others } = schema;
    if ($ref !== undefined) {
      if (Object.keys(others).every(isAnnotation)) return this.#reference($ref, place);
      const target = this.#flat({ $ref }, place);
      const merged = target === null ? null : mergeSchemas(target, others, place);
      return merged === null ? NEVER : this.#object(merged, place);
    }
    if (schema.allOf !== undefined) {
      const flat = this.#flat(schema, place);
      return flat === null ? NEVER : this.#object(flat, place);
    }
    for (const keyword of ['anyOf', 'oneOf'] as const) {
      if (schema[keyword] !== undefined) return this.#branches(schema, keyword, place);
    }
    return this.#plain(schema, place);
  }

  /** References by rules: they may lead back. */
  #reference(reference: unknown, place: string): Expression {
    if (typeof reference !== 'string') throw new SchemaFault(`${place}.$ref`, 'must be a text');
    let named = this.#rules.get(reference);
    if (named !== undefined) return named;
    named = rule(reference);
    this.#rules.set(reference, named);
    const target = this.#resolve(reference, place);
    named.body = this.schema(
      target,
      reference.replace(/^#\/?/, '$.').replaceAll('/', '.').replace(/\.$/, ''),
    );
    return named;
  }

  #resolve(reference: string, place: string): unknown {
    if (!reference.startsWith('#')) {
      throw new SchemaFault(
        `${place}.$ref`,
        `${reference.slice(0, 80)} is not within the schema: that is not supported`,
      );
    }
    let at: unknown = this.#root;
    for (const part of reference.slice(1).split('/').slice(1)) {
      const name = decodedPart(part)?.replaceAll('~1', '/').replaceAll('~0', '~') ?? null;
      if (name === null) throw new SchemaFault(`${place}.$ref`, `${reference.slice(0, 80)} is no reference`);
      at =
        typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Schema)[name] : undefined;
    }
    if (at === undefined || (reference.length > 1 && reference[1] !== '/')) {
      throw new SchemaFault(`${place}.$ref`, `there is no ${reference.slice(0, 80)}`);
    }
    return at;
  }

  /** Without $ref and allOf; null: nothing satisfies it. */
  #flat(schema: unknown, place: string, followed = 0): Schema | null {
    if (!isSchema(schema)) throw new SchemaFault(place, 'must be a schema: an object, true or false');
    if (followed > MAX_DEPTH) throw new SchemaFault(place, 'it leads back to itself');
    if (typeof schema === 'boolean') return schema ? {} : null;
    const { $ref, allOf, ...own } = schema;
    const parts: unknown[] = [];
    if ($ref !== undefined) parts.push(this.#resolve(String($ref), place));
    if (allOf !== undefined) {
      if (!Array.isArray(allOf)) throw new SchemaFault(`${place}.allOf`, 'must be a list of schemas');
      parts.push(...allOf);
    }
    let flat: Schema | null = own;
    for (const part of parts) {
      const other = this.#flat(part, place, followed + 1);
      flat = flat === null || other === null ? null : mergeSchemas(flat, other, place);
    }
    return flat;
  }

  #branches(schema: Schema, keyword: 'anyOf' | 'oneOf', place: string): Expression {
    const { [keyword]: branches, ...shared } = schema;
    if (!Array.isArray(branches) || branches.length === 0) {
      throw new SchemaFault(`${place}.${keyword}`, 'must be a list of at least one schema');
    }
    const hasShared = !Object.keys(shared).every(isAnnotation);
    if (keyword === 'oneOf') this.#checkExclusive(branches, place);
    return choice(
      ...branches.map((branch: unknown, index) => {
        const at = `${place}.${keyword}[${index}]`;
        if (!hasShared) return this.schema(branch, at);
        const flat = this.#flat(branch, at);
        const merged = flat === null ? null : mergeSchemas(shared, flat, at);
        return merged === null ? NEVER : this.schema(merged, at);
      }),
    );
  }

  /** A value of one must be none of another. */
  #checkExclusive(branches: readonly unknown[], place: string): void {
    const flat = branches.map((branch, index) => this.#flat(branch, `${place}.oneOf[${index}]`));
    for (let one = 0; one < flat.length; one++) {
      for (let other = one + 1; other < flat.length; other++) {
        const [a, b] = [flat[one], flat[other]];
        if (!a || !b || exclude(a, b, (schema) => this.#flat(schema, place))) continue;
        throw new SchemaFault(
          `${place}.oneOf`,
          `alternatives ${one} and ${other} are not told apart by a type, a const or an enum: use anyOf`,
        );
      }
    }
  }

  #plain(schema: Schema, place: string): Expression {
    if (schema.const !== undefined || schema.enum !== undefined) return this.#values(schema, place);
    const types = typesOf(schema) ?? spokenOf(schema);
    if (types === null) return this.#any.value;
    for (const type of types) {
      if (!TYPES.includes(type)) throw new SchemaFault(`${place}.type`, `${JSON.stringify(type)} is no type`);
    }
    const wanted = types.includes('number') ? types.filter((type) => type !== 'integer') : types;
    return choice(...wanted.map((type) => this.#ofType(type, schema, place)));
  }

  #ofType(type: string, schema: Schema, place: string): Expression {
    switch (type) {
      case 'object':
        return objectExpression(schema, place, this.schema);
      case 'array':
        return listExpression(schema, place, this.schema);
      case 'string':
        return stringExpression(schema, place);
      case 'boolean':
        return BOOLEAN;
      case 'null':
        return NULL;
      default:
        return numberExpression(type === 'integer', schema, place);
    }
  }

  #values(schema: Schema, place: string): Expression {
    const { const: only, enum: listed = [only] } = schema;
    if (!Array.isArray(listed) || listed.length === 0) {
      throw new SchemaFault(`${place}.enum`, 'must be a list of at least one value');
    }
    const allowed = listed.filter(
      (value) => (only === undefined || isDeepStrictEqual(value, only)) && accepts(schema, value, place),
    );
    return choice(
      ...[...new Set(allowed.map((value) => JSON.stringify(value)))].map((text) => literal(text)),
    );
  }
}

/** Types that the keywords speak of; null: of none. */
function spokenOf(schema: Schema): string[] | null {
  const types = new Set(
    Object.keys(schema).flatMap((keyword) =>
      Object.hasOwn(SPEAKS_OF, keyword) ? [SPEAKS_OF[keyword]!] : [],
    ),
  );
  return types.size === 0 ? null : [...types];
}

function stringExpression(schema: Schema, place: string): Expression {
  const least = countOf(schema, 'minLength', place) ?? 0;
  const most = countOf(schema, 'maxLength', place) ?? Number.POSITIVE_INFINITY;
  const { format, pattern } = schema;
  const inner: Expression[] = [];
  for (const source of pattern === undefined ? [] : [pattern].flat()) {
    if (typeof source !== 'string') throw new SchemaFault(`${place}.pattern`, 'must be a text');
    inner.push(regexExpression(source, { whole: false, write: writtenCharacters }));
  }
  if (format !== undefined) {
    const source = typeof format === 'string' ? formatPattern(format) : null;
    if (source === null) {
      throw new SchemaFault(
        `${place}.format`,
        `${JSON.stringify(format)} is not supported: ${FORMAT_NAMES.join(', ')} are`,
      );
    }
    inner.push(regexExpression(source, { whole: true, write: writtenCharacters }));
  }
  if (inner.length === 0) return anyString(least, most);
  const isCounted = least > 0 || most !== Number.POSITIVE_INFINITY;
  let all = inner.reduce((a, b) => intersection(a, b));
  if (isCounted) {
    checkCounted(all, most === Number.POSITIVE_INFINITY ? least : most);
    all = intersection(all, repeat(writtenCharacters([[0, 0x10ffff]]), least, most));
  }
  return isNever(all) ? NEVER : quoted(all);
}

function numberExpression(isInteger: boolean, schema: Schema, place: string): Expression {
  const bounds = boundsOf(schema, place);
  const { multipleOf } = schema;
  if (multipleOf === undefined) {
    if (isUnbounded(bounds)) return isInteger ? ANY_INTEGER : ANY_NUMBER;
    return isInteger ? integersWithin(bounds) : numbersWithin(bounds);
  }
  if (
    typeof multipleOf !== 'number' ||
    !Number.isInteger(multipleOf) ||
    multipleOf < 1 ||
    multipleOf > MAX_MULTIPLE
  ) {
    throw new SchemaFault(`${place}.multipleOf`, `is supported for whole numbers of 1 … ${MAX_MULTIPLE}`);
  }
  const multiples = multiplesOf(multipleOf);
  const signed = choice(multiples, sequence(literal('-'), difference(multiples, literal('0'))));
  return intersection(isUnbounded(bounds) ? ANY_INTEGER : integersWithin(bounds), signed);
}

function boundsOf(schema: Schema, place: string): Bounds {
  const number = (keyword: string): number | null => {
    const value = schema[keyword];
    if (value === undefined || typeof value === 'boolean') return null;
    if (typeof value !== 'number') throw new SchemaFault(`${place}.${keyword}`, 'must be a number');
    return value;
  };
  const [minimum, maximum] = [number('minimum'), number('maximum')];
  const [above, below] = [number('exclusiveMinimum'), number('exclusiveMaximum')];
  const excludesLeast =
    (above !== null && (minimum === null || above >= minimum)) || schema.exclusiveMinimum === true;
  const excludesMost =
    (below !== null && (maximum === null || below <= maximum)) || schema.exclusiveMaximum === true;
  return {
    least: above !== null && (minimum === null || above > minimum) ? above : minimum,
    most: below !== null && (maximum === null || below < maximum) ? below : maximum,
    excludesLeast,
    excludesMost,
  };
}

/** null: a stray %. */
function decodedPart(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
