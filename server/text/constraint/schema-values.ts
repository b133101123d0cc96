/**
 * Values that stand in a schema: whether its other keywords allow them, and whether two schemas have none in common.
 *
 * In      a schema without $ref and allOf; a value of its enum
 * Out     yes or no
 * Errors  SchemaFault: a keyword beside an enum that would have to be checked
 */
import { isDeepStrictEqual } from 'node:util';
import { isAnnotation, type Schema, SchemaFault, typesOf } from './schema-merge.js';

export function accepts(schema: Schema, value: unknown, place: string): boolean {
  for (const [keyword, limit] of Object.entries(schema)) {
    if (keyword === 'enum' || keyword === 'const' || keyword === 'nullable' || isAnnotation(keyword))
      continue;
    const test = Object.hasOwn(TESTS, keyword) ? TESTS[keyword] : undefined;
    if (test === undefined)
      throw new SchemaFault(place, `${keyword} beside an enum or const is not supported`);
    if (!test(limit, value, schema, place)) return false;
  }
  return true;
}

type Test = (limit: unknown, value: unknown, schema: Schema, place: string) => boolean;

const ofNumber =
  (holds: (value: number, limit: number) => boolean): Test =>
  (limit, value) =>
    typeof value !== 'number' || typeof limit !== 'number' || holds(value, limit);
const ofLength =
  (holds: (length: number, limit: number) => boolean): Test =>
  (limit, value) =>
    typeof value !== 'string' || typeof limit !== 'number' || holds([...value].length, limit);

const TESTS: Readonly<Record<string, Test>> = {
  type: (_, value, schema) => typesOf(schema)!.some((type) => isOfType(type, value)),
  minimum: ofNumber((value, limit) => value >= limit),
  maximum: ofNumber((value, limit) => value <= limit),
  exclusiveMinimum: ofNumber((value, limit) => value > limit),
  exclusiveMaximum: ofNumber((value, limit) => value < limit),
  multipleOf: ofNumber((value, limit) => Number.isInteger(value / limit)),
  minLength: ofLength((length, limit) => length >= limit),
  maxLength: ofLength((length, limit) => length <= limit),
  pattern: (limit, value, _schema, place) =>
    typeof value !== 'string' || [limit].flat().every((one) => patternOf(one, place).test(value)),
};

/** @throws SchemaFault */
function patternOf(source: unknown, place: string): RegExp {
  if (typeof source !== 'string') throw new SchemaFault(`${place}.pattern`, 'must be a text');
  try {
    return new RegExp(source, 'u');
  } catch {
    throw new SchemaFault(`${place}.pattern`, 'is no regular expression');
  }
}

function isOfType(type: string, value: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

/** No value is of both, as far as types, enums and members that both require tell. */
export function exclude(a: Schema, b: Schema, flat: (schema: unknown) => Schema | null, depth = 0): boolean {
  const [valuesA, valuesB] = [valuesOf(a), valuesOf(b)];
  if (valuesA !== null && valuesB !== null) {
    return !valuesA.some((one) => valuesB.some((other) => isDeepStrictEqual(one, other)));
  }
  const [typesA, typesB] = [typesOf(a), typesOf(b)];
  if (
    typesA !== null &&
    typesB !== null &&
    !typesA.some((type) => typesB.some((other) => isSameType(type, other)))
  )
    return true;
  const [values, types] = valuesA === null ? [valuesB, typesA] : [valuesA, typesB];
  if (
    values !== null &&
    types !== null &&
    !values.some((value) => types.some((type) => isOfType(type, value)))
  )
    return true;
  if (depth > 4) return false;
  if (!isDeepStrictEqual(typesA, ['object']) || !isDeepStrictEqual(typesB, ['object'])) return false;
  return (requiredOf(a) ?? []).some((name) => {
    if (!requiredOf(b).includes(name)) return false;
    const [ofA, ofB] = [memberOf(a, name), memberOf(b, name)];
    if (ofA === undefined || ofB === undefined) return false;
    const [flatA, flatB] = [flat(ofA), flat(ofB)];
    return flatA !== null && flatB !== null && exclude(flatA, flatB, flat, depth + 1);
  });
}

const isSameType = (a: string, b: string): boolean =>
  a === b || (a === 'integer' && b === 'number') || (a === 'number' && b === 'integer');

function valuesOf({ const: only, enum: listed }: Schema): unknown[] | null {
  if (only !== undefined) return [only];
  return Array.isArray(listed) ? listed : null;
}

const requiredOf = (schema: Schema): string[] =>
  Array.isArray(schema.required) ? (schema.required as string[]) : [];

function memberOf({ properties }: Schema, name: string): unknown {
  if (typeof properties !== 'object' || properties === null || !Object.hasOwn(properties, name))
    return undefined;
  return (properties as Schema)[name];
}
