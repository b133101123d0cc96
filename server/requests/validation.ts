/**
 * Schemas to sentences: checks a value against a TypeBox schema and says which field breaks which limit with which value.
 *
 * In      parsed JSON; no coercion: "5" is not a number
 * Out     the value without its null fields (null means absent, as in OpenAI's API), or an InvalidInput
 * Limits  the schema's; values are quoted up to MAX_QUOTED_CHARACTERS
 * Errors  InvalidInput, returned: Fastify's validator compiler wants it so
 */
import type { Static, TSchema } from '@sinclair/typebox';
import { TypeCompiler, type ValueError } from '@sinclair/typebox/compiler';
import { InvalidInput } from './invalid-input.js';

const MAX_QUOTED_CHARACTERS = 80;

export type Checked<T> = { value: T } | { error: InvalidInput };

/** A schema, compiled. An `expects` annotation of a schema completes "… must be". */
export interface Validator<T> {
  check(value: unknown): Checked<T>;
}

export function compileValidator<S extends TSchema>(schema: S): Validator<Static<S>> {
  const compiled = TypeCompiler.Compile(schema);
  return {
    check(value) {
      const cleaned = withoutNulls(value);
      if (compiled.Check(cleaned)) return { value: cleaned };
      return { error: describe(compiled.Errors(cleaned).First()!) };
    },
  };
}

/** Own fields that are null left out, here and in nested plain options (parameters, stream_options). */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(
    entries.map(([name, field]) => [
      name,
      name === 'parameters' || name === 'stream_options' ? withoutNulls(field) : field,
    ]),
  );
}

function describe(error: ValueError): InvalidInput {
  const path = shortened(readablePath(error.path));
  const expected = expectation(error.schema);
  const name = error.path.split('/').at(1);
  const param = name === undefined ? null : shortened(name);
  const subject = path === '' ? 'The request body' : path;
  if (error.value === undefined && path !== '') {
    return new InvalidInput(`${subject} is required and must be ${expected}`, param);
  }
  return new InvalidInput(`${subject} must be ${expected}, got ${quote(error.value)}`, param);
}

/** A value as it is shown to its sender. */
export function quote(value: unknown): string {
  return shortened(value === undefined ? 'nothing' : JSON.stringify(value));
}

const shortened = (text: string): string =>
  text.length > MAX_QUOTED_CHARACTERS ? `${text.slice(0, MAX_QUOTED_CHARACTERS)}…` : text;

/** `/parameters/stop/0` → `parameters.stop[0]` */
function readablePath(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce(
      (path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path === '' ? part : `${path}.${part}`),
      '',
    );
}

/** Completes "… must be". */
export function expectation(schema: TSchema): string {
  if (typeof schema.expects === 'string') return schema.expects;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case 'number':
      return `a number${range(schema)}`;
    case 'integer':
      return `an integer${range(schema)}`;
    case 'string':
      return schema.minLength === undefined && schema.maxLength === undefined
        ? 'a string'
        : `a string of ${schema.minLength ?? 0} … ${schema.maxLength ?? 'any number of'} characters`;
    case 'array':
      return `a list of ${schema.minItems ?? 0} … ${schema.maxItems ?? 'any number of'} items`;
    case 'boolean':
      return 'true or false';
    default:
      return 'an object';
  }
}

function range(schema: TSchema): string {
  const low =
    schema.exclusiveMinimum !== undefined
      ? ` above ${schema.exclusiveMinimum}`
      : schema.minimum !== undefined
        ? ` of at least ${schema.minimum}`
        : '';
  const high = schema.maximum !== undefined ? ` of at most ${schema.maximum}` : '';
  return low !== '' && high !== '' ? `${low} and${high}` : `${low}${high}`;
}
