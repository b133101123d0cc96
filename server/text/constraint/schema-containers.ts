/**
 * Objects and lists of a JSON schema.
 *
 * In      keywords; how a schema within becomes an expression
 * Out     Expression. Members come in the order of `properties`, then those that are required and not described, then others
 * Limits  MAX_COUNTED members where their number is limited
 * Errors  SchemaFault
 */
import {
  choice,
  EMPTY,
  type Expression,
  isNever,
  literal,
  NEVER,
  optional,
  repeat,
  sequence,
} from './expression.js';
import { difference, intersection } from './finite.js';
import { anyString, bracketed, COLON, COMMA, quoted, writtenCharacters } from './json-text.js';
import { regexExpression } from './regex.js';
import { type AnySchema, isSchema, type Schema, SchemaFault } from './schema-merge.js';

const MAX_COUNTED = 200;
const MANY = Number.POSITIVE_INFINITY;

/** @param mayBeNone it may be left out: that nothing satisfies it is no contradiction */
export type Compile = (schema: unknown, place: string, mayBeNone?: boolean) => Expression;

const anyWritten = repeat(writtenCharacters([[0, 0x10ffff]]), 0);

interface Member {
  expression: Expression;
  required: boolean;
}

export function objectExpression(schema: Schema, place: string, compile: Compile): Expression {
  const described = membersOf(schema, place);
  const required = new Set(stringsOf(schema, 'required', place));
  const least = countOf(schema, 'minProperties', place) ?? 0;
  const most = countOf(schema, 'maxProperties', place) ?? MANY;
  const other = othersOf(schema, described, place, compile);
  const undescribed = [...required].filter((name) => !described.has(name));
  if (undescribed.length > 0 && other === null) {
    throw new SchemaFault(place, `${undescribed[0]} is required, and no member of that name is allowed`);
  }
  const members: Member[] = [...described].map(([name, [value, valuePlace]]) => ({
    expression: memberOf(literal(JSON.stringify(name)), compile(value, valuePlace, !required.has(name))),
    required: required.has(name),
  }));
  for (const name of undescribed) {
    members.push({ expression: memberOf(literal(JSON.stringify(name)), other!.value), required: true });
  }
  const isCounted = least > 0 || most !== MANY;
  if (isCounted && members.length > MAX_COUNTED) {
    throw new SchemaFault(
      place,
      `minProperties or maxProperties with more than ${MAX_COUNTED} members is not supported`,
    );
  }
  const one = other === null ? null : memberOf(other.key, other.value);
  return bracketed('{', listed(members, one, least, most, isCounted), '}');
}

const memberOf = (key: Expression, value: Expression): Expression => sequence(key, COLON, value);

/** Members in their order, those that are not required or not, then any number of others. */
function listed(
  members: readonly Member[],
  other: Expression | null,
  least: number,
  most: number,
  isCounted: boolean,
): Expression {
  // What follows when so many members were written: where only commas depend on it, some or none.
  let behind = new Map<number, Expression>();
  const counts = isCounted ? members.length : 1;
  for (let count = 0; count <= counts; count++) {
    behind.set(count, othersBehind(other, count, least, most));
  }
  for (const { expression, required } of [...members].reverse()) {
    const before = new Map<number, Expression>();
    for (let count = 0; count <= counts; count++) {
      const written = isCounted ? count + 1 : 1;
      const isRoom = !isCounted || count < most;
      const next = isRoom && behind.has(written) ? behind.get(written)! : NEVER;
      const taken = sequence(count > 0 ? COMMA : EMPTY, expression, next);
      before.set(count, required ? taken : choice(taken, behind.get(count)!));
    }
    behind = before;
  }
  return behind.get(0)!;
}

function othersBehind(other: Expression | null, count: number, least: number, most: number): Expression {
  const missing = Math.max(0, least - count);
  if (count > most) return NEVER;
  if (other === null) return missing > 0 ? NEVER : EMPTY;
  if (count > 0) return repeat(sequence(COMMA, other), missing, most - count);
  if (most === 0) return EMPTY;
  const some = sequence(other, repeat(sequence(COMMA, other), Math.max(0, missing - 1), most - 1));
  return missing > 0 ? some : optional(some);
}

function membersOf(schema: Schema, place: string): Map<string, [AnySchema, string]> {
  const { properties = {} } = schema;
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
    throw new SchemaFault(place, 'properties must be an object');
  }
  return new Map(
    Object.entries(properties).map(([name, value]) => {
      const valuePlace = `${place}.properties.${name}`;
      if (!isSchema(value)) throw new SchemaFault(valuePlace, 'must be a schema');
      return [name, [value, valuePlace]];
    }),
  );
}

/** Members that `properties` does not name; null: there are none. */
function othersOf(
  schema: Schema,
  described: ReadonlyMap<string, unknown>,
  place: string,
  compile: Compile,
): { key: Expression; value: Expression } | null {
  const patterns = Object.entries((schema.patternProperties ?? {}) as Schema);
  if (patterns.length > 0) return byPattern(patterns, described, place, compile);
  const { propertyNames } = schema;
  const rest = schema.additionalProperties ?? schema.unevaluatedProperties;
  // Closed where it says nothing but what it has; open where it describes nothing.
  if (rest === false || (rest === undefined && described.size > 0)) return null;
  const value = compile(rest ?? true, `${place}.additionalProperties`);
  if (propertyNames === undefined || propertyNames === true) {
    return { key: without(described.keys(), quoted(anyWritten), anyString()), value };
  }
  if (described.size > 0)
    throw new SchemaFault(place, 'propertyNames together with properties is not supported');
  const names = isSchema(propertyNames) && typeof propertyNames === 'object' ? propertyNames : null;
  if (names === null) throw new SchemaFault(`${place}.propertyNames`, 'must be a schema of texts');
  return { key: compile({ ...names, type: 'string' }, `${place}.propertyNames`), value };
}

function byPattern(
  patterns: readonly [string, unknown][],
  described: ReadonlyMap<string, unknown>,
  place: string,
  compile: Compile,
): { key: Expression; value: Expression } {
  const [[pattern, value]] = patterns as [[string, unknown]];
  const at = `${place}.patternProperties.${pattern}`;
  if (patterns.length > 1)
    throw new SchemaFault(`${place}.patternProperties`, 'more than one pattern is not supported');
  const expression = regexExpression(pattern, { whole: false, write: writtenCharacters });
  const matcher = new RegExp(pattern, 'u');
  for (const name of described.keys()) {
    if (matcher.test(name))
      throw new SchemaFault(at, `it matches the member ${name} too: that is not supported`);
  }
  const key = quoted(intersection(expression, anyWritten));
  return { key, value: compile(value, at) };
}

/** Texts of names that are taken are left out, in the one way in which `written` writes them. */
function without(names: Iterable<string>, written: Expression, free: Expression): Expression {
  const taken = [...names].map((name) => literal(JSON.stringify(name)));
  return taken.length === 0 ? free : difference(written, choice(...taken));
}

export function listExpression(schema: Schema, place: string, compile: Compile): Expression {
  const { first, firstPlace, rest } = itemsOf(schema, place);
  const least = countOf(schema, 'minItems', place) ?? 0;
  const most = countOf(schema, 'maxItems', place) ?? MANY;
  if (least > most) return NEVER;
  if (schema.uniqueItems === true && most > 1) return uniqueList(first, rest, least, most, place, compile);
  const leading = first.map((item, index) => compile(item, `${firstPlace}[${index}]`));
  const other = rest === false ? null : compile(rest ?? true, `${place}.items`);
  /** What may follow when so many items were written. */
  const behind = (count: number): Expression => {
    if (count >= most) return EMPTY;
    const isEnough = count >= least;
    if (count < leading.length) {
      const next = sequence(COMMA, leading[count]!, behind(count + 1));
      return isEnough ? optional(next) : next;
    }
    if (other === null) return isEnough ? EMPTY : NEVER;
    return repeat(sequence(COMMA, other), Math.max(0, least - count), most - count);
  };
  if (most === 0) return bracketed('[', EMPTY, ']');
  const start = leading[0] ?? other;
  const inner = start === null ? NEVER : sequence(start, behind(1));
  return bracketed('[', least > 0 ? inner : choice(inner, EMPTY), ']');
}

function itemsOf(
  schema: Schema,
  place: string,
): { first: readonly unknown[]; firstPlace: string; rest: unknown } {
  const { additionalItems, items, prefixItems } = schema;
  // Before draft 2020-12, `items` was the list.
  const isOld = Array.isArray(items);
  const first = isOld ? items : (prefixItems ?? []);
  if (!Array.isArray(first)) throw new SchemaFault(`${place}.prefixItems`, 'must be a list of schemas');
  return {
    first,
    firstPlace: `${place}.${isOld ? 'items' : 'prefixItems'}`,
    rest: isOld ? additionalItems : items,
  };
}

/** Values of a closed list, each once, in its order. */
function uniqueList(
  first: readonly unknown[],
  rest: unknown,
  least: number,
  most: number,
  place: string,
  compile: Compile,
): Expression {
  const values = isSchema(rest) && typeof rest === 'object' ? rest.enum : undefined;
  if (first.length > 0 || !Array.isArray(values) || values.length > MAX_COUNTED) {
    throw new SchemaFault(
      `${place}.uniqueItems`,
      `is supported only where items has an enum of at most ${MAX_COUNTED} values, or maxItems is 1`,
    );
  }
  const distinct = [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
  const members = distinct
    .map((value) => compile({ ...(rest as Schema), enum: [value] }, `${place}.items`))
    .filter((expression) => !isNever(expression))
    .map((expression) => ({ expression, required: false }));
  return bracketed('[', listed(members, null, least, most, true), ']');
}

function stringsOf(schema: Schema, keyword: string, place: string): string[] {
  const value = schema[keyword] ?? [];
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value as string[];
  throw new SchemaFault(`${place}.${keyword}`, 'must be a list of texts');
}

export function countOf(schema: Schema, keyword: string, place: string): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw new SchemaFault(`${place}.${keyword}`, 'must be a whole number of at least 0');
}
