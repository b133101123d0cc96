/**
 * Two JSON schemas that both hold, as one.
 *
 * In      objects of keywords, without $ref and allOf
 * Out     one object of keywords; null: nothing satisfies both
 * Errors  SchemaFault where two keywords are not served together
 */
import { isDeepStrictEqual } from 'node:util';

export type Schema = Readonly<Record<string, unknown>>;
export type AnySchema = Schema | boolean;

/** A schema that is no schema, or none that is served; the message begins with its place. */
export class SchemaFault extends Error {
  constructor(place: string, what: string) {
    super(`${place}: ${what}`);
  }
}

const MAX_BRANCHES = 256;

/** They say nothing of a value. */
const ANNOTATIONS = new Set([
  'title',
  'description',
  'default',
  'examples',
  'example',
  '$comment',
  'deprecated',
  'readOnly',
  'writeOnly',
  '$schema',
  '$id',
  'id',
  '$anchor',
  '$defs',
  'definitions',
  'strict',
  'contentEncoding',
  'contentMediaType',
  'contentSchema',
]);

/** Keyword → whether a schema without it says the same. */
export const isAnnotation = (keyword: string): boolean => ANNOTATIONS.has(keyword);

export const isSchema = (value: unknown): value is AnySchema =>
  typeof value === 'boolean' || (typeof value === 'object' && value !== null && !Array.isArray(value));

export function typesOf(schema: Schema): string[] | null {
  const { type } = schema;
  if (type === undefined) return null;
  const listed = (Array.isArray(type) ? type : [type]) as string[];
  return schema.nullable === true && !listed.includes('null') ? [...listed, 'null'] : listed;
}

const LARGER = new Set(['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties']);
const SMALLER = new Set(['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties']);
const MEMBERS = new Set(['properties', 'additionalProperties', 'patternProperties', 'unevaluatedProperties']);

export function mergeSchemas(a: Schema, b: Schema, place: string): Schema | null {
  const merged: Record<string, unknown> = { ...a };
  for (const [keyword, value] of Object.entries(b)) {
    if (isAnnotation(keyword) || MEMBERS.has(keyword)) continue;
    const own = merged[keyword];
    if (own === undefined || isDeepStrictEqual(own, value)) merged[keyword] = value;
    else if (LARGER.has(keyword) || SMALLER.has(keyword)) {
      const [one, other] = [own, value].map((limit) => numberOf(limit, keyword, place)) as [number, number];
      merged[keyword] = LARGER.has(keyword) ? Math.max(one, other) : Math.min(one, other);
    } else if (!mergeKeyword(merged, keyword, value, a, b, place)) return null;
  }
  mergeMembers(merged, a, b, place);
  return merged;
}

/** @throws SchemaFault */
function numberOf(limit: unknown, keyword: string, place: string): number {
  if (typeof limit === 'number') return limit;
  throw new SchemaFault(`${place}.${keyword}`, 'must be a number');
}

/** @throws SchemaFault */
function listOf(list: unknown, keyword: string, place: string): readonly unknown[] {
  if (Array.isArray(list)) return list;
  throw new SchemaFault(`${place}.${keyword}`, 'must be a list');
}

/** @returns whether there is a value of both */
function mergeKeyword(
  merged: Record<string, unknown>,
  keyword: string,
  value: unknown,
  a: Schema,
  b: Schema,
  place: string,
): boolean {
  const own = merged[keyword];
  const lists = (): [readonly unknown[], readonly unknown[]] => [
    listOf(own, keyword, place),
    listOf(value, keyword, place),
  ];
  switch (keyword) {
    case 'type': {
      const both = commonTypes(typesOf(a)!, typesOf(b)!);
      merged.type = both;
      return both.length > 0;
    }
    case 'nullable':
      return true;
    case 'required':
      merged.required = [...new Set(lists().flat())];
      return true;
    case 'enum': {
      const [ones, others] = lists();
      const both = ones.filter((one) => others.some((other) => isDeepStrictEqual(one, other)));
      merged.enum = both;
      return both.length > 0;
    }
    case 'const':
      return false;
    case 'uniqueItems':
      merged.uniqueItems = true;
      return true;
    case 'pattern':
      merged.pattern = [own, value].flat();
      return true;
    case 'items':
    case 'propertyNames':
      merged[keyword] = { allOf: [own, value] };
      return true;
    case 'anyOf': {
      const [ones, others] = lists();
      const pairs = ones.flatMap((one) => others.map((other) => ({ allOf: [one, other] })));
      if (pairs.length > MAX_BRANCHES)
        throw new SchemaFault(place, `more than ${MAX_BRANCHES} alternatives together`);
      merged.anyOf = pairs;
      return true;
    }
    default:
      throw new SchemaFault(place, `two different ${keyword} that both hold are not supported`);
  }
}

function commonTypes(a: readonly string[], b: readonly string[]): string[] {
  const both = a.filter((type) => b.includes(type));
  const isWhole = (one: readonly string[], other: readonly string[]): boolean =>
    one.includes('integer') && other.includes('number') && !one.includes('number');
  return isWhole(a, b) || isWhole(b, a) ? [...new Set([...both, 'integer'])] : both;
}

/** What one says of other members holds for those that the other names. */
function mergeMembers(merged: Record<string, unknown>, a: Schema, b: Schema, place: string): void {
  if (!Object.keys(b).some((keyword) => MEMBERS.has(keyword))) return;
  if (!Object.keys(a).some((keyword) => MEMBERS.has(keyword))) {
    for (const keyword of MEMBERS) if (b[keyword] !== undefined) merged[keyword] = b[keyword];
    return;
  }
  if (a.patternProperties !== undefined || b.patternProperties !== undefined) {
    throw new SchemaFault(
      place,
      'patternProperties together with members of another schema is not supported',
    );
  }
  const [ofA, ofB] = [a.properties ?? {}, b.properties ?? {}] as [Schema, Schema];
  const [restA, restB] = [restOf(a), restOf(b)];
  const names = [...new Set([...Object.keys(ofA), ...Object.keys(ofB)])];
  merged.properties = Object.fromEntries(
    names.map((name) => [name, both(own(ofA, name) ?? restA, own(ofB, name) ?? restB)]),
  );
  const rest = both(restA, restB);
  if (rest !== undefined) merged.additionalProperties = rest;
}

const own = (schema: Schema, name: string): unknown =>
  Object.hasOwn(schema, name) ? schema[name] : undefined;

const restOf = (schema: Schema): unknown => schema.additionalProperties ?? schema.unevaluatedProperties;

function both(a: unknown, b: unknown): unknown {
  if (a === undefined || a === true) return b ?? a;
  if (b === undefined || b === true) return a;
  if (a === false || b === false) return false;
  return isDeepStrictEqual(a, b) ? a : { allOf: [a, b] };
}
