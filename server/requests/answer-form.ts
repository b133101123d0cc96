/**
 * What form of answer a body asks for: OpenAI's response_format, vLLM's structured_outputs and guided_*.
 *
 * In      parsed JSON
 * Out     ConstraintSpec, or null: any text. Whether the schema or grammar is one is found where the model is known
 * Errors  InvalidInput naming the field; more than one form
 * Source  Text Generation Inference: response_format has its schema or expression as `value` (huggingface_hub turns json_schema into that), llama.cpp's
 *         server as `schema`; OpenAI API reference (structured outputs); vLLM: structured_outputs, and guided_* as it was before
 */
import type { ConstraintSpec } from './answer-constraint.js';
import { boundedJson } from './bounded-json.js';
import { InvalidInput } from './invalid-input.js';
import { quote } from './validation.js';

const MAX_FORM_CHARACTERS = 1024 * 1024;

type Given = Readonly<Record<string, unknown>>;

/** Fields of structured_outputs, each the same as guided_… */
const KINDS = ['json', 'regex', 'choice', 'grammar', 'json_object'] as const;
type Kind = (typeof KINDS)[number];
/** How the automaton is made elsewhere: nothing here depends on it. */
const IGNORED = [
  'disable_fallback',
  'disable_any_whitespace',
  'disable_additional_properties',
  'whitespace_pattern',
  '_backend',
];

/** @throws InvalidInput */
export function answerForm(body: Given): ConstraintSpec | null {
  const forms = [responseFormat(body.response_format), ...structuredOutputs(body), ...guided(body)];
  const asked = forms.filter((form) => form !== null);
  if (asked.length <= 1) return asked[0] ?? null;
  throw new InvalidInput('only one form of the answer may be asked for', 'structured_outputs');
}

/** The fields that ask for a form, of whatever type: answerForm reads them. */
export const FORM_FIELDS = [
  'response_format',
  'structured_outputs',
  ...KINDS.map((kind) => `guided_${kind}` as const),
] as const;

/** Why a body's form is none, or null. */
export function answerFormRefusal(body: Given): InvalidInput | null {
  try {
    answerForm(body);
    return null;
  } catch (error) {
    if (error instanceof InvalidInput) return error;
    throw error;
  }
}

function responseFormat(format: unknown): ConstraintSpec | null {
  if (format === undefined || format === null) return null;
  const given = objectOf(format, 'response_format');
  switch (given.type) {
    case 'text':
      return null;
    case 'json':
    case 'json_object': {
      const [name, schema] =
        given.value == null ? (['schema', given.schema] as const) : (['value', given.value] as const);
      return schema == null ? { kind: 'json-object' } : jsonForm(schema, `response_format.${name}`);
    }
    case 'regex':
      return { kind: 'regex', pattern: textOf(given.value, 'response_format.value') };
    case 'json_schema': {
      // `name` and `strict` change nothing: it is always strict. The Responses API has the schema beside the type.
      const told = given.json_schema ?? given.value;
      const nested = told === undefined ? given : objectOf(told, 'response_format.json_schema');
      if (nested.schema === undefined) {
        throw new InvalidInput('response_format.json_schema.schema is required', 'response_format');
      }
      return jsonForm(nested.schema, 'response_format.json_schema.schema');
    }
    default:
      throw new InvalidInput(
        `response_format.type must be "text", "json_object", "json_schema" or "regex", got ${quote(given.type)}`,
        'response_format',
      );
  }
}

function structuredOutputs(body: Given): (ConstraintSpec | null)[] {
  if (body.structured_outputs === undefined || body.structured_outputs === null) return [];
  const given = objectOf(body.structured_outputs, 'structured_outputs');
  for (const [name, value] of Object.entries(given)) {
    if (value === null || IGNORED.includes(name) || KINDS.some((kind) => kind === name)) continue;
    throw new InvalidInput(
      `structured_outputs.${name} is not supported by this server: ${KINDS.join(', ')} are`,
      'structured_outputs',
    );
  }
  return KINDS.map((kind) => formOf(kind, given[kind], `structured_outputs.${kind}`));
}

function guided(body: Given): (ConstraintSpec | null)[] {
  return KINDS.map((kind) => formOf(kind, body[`guided_${kind}`], `guided_${kind}`));
}

function formOf(kind: Kind, value: unknown, field: string): ConstraintSpec | null {
  if (value === undefined || value === null) return null;
  switch (kind) {
    case 'json':
      return jsonForm(value, field);
    case 'regex':
      return { kind: 'regex', pattern: textOf(value, field) };
    case 'grammar':
      return { kind: 'grammar', source: textOf(value, field) };
    case 'json_object':
      if (value === false) return null;
      if (value === true) return { kind: 'json-object' };
      throw new InvalidInput(`${field} must be true or false, got ${quote(value)}`, paramOf(field));
    case 'choice':
      if (
        Array.isArray(value) &&
        value.length > 0 &&
        value.every((one) => typeof one === 'string' && one !== '')
      ) {
        return { kind: 'choice', texts: value as string[] };
      }
      throw new InvalidInput(
        `${field} must be a list of at least one text, got ${quote(value)}`,
        paramOf(field),
      );
  }
}

/** A schema, or the JSON text of one. */
function jsonForm(value: unknown, field: string): ConstraintSpec {
  if (typeof value !== 'string') return { kind: 'json-schema', schema: value };
  const text = textOf(value, field);
  const schema = boundedJson(text, field, paramOf(field), 'is not the JSON text of a schema');
  return { kind: 'json-schema', schema };
}

function textOf(value: unknown, field: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_FORM_CHARACTERS) return value;
  throw new InvalidInput(`${field} must be a text of 1 … ${MAX_FORM_CHARACTERS} characters`, paramOf(field));
}

function objectOf(value: unknown, field: string): Given {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Given;
  throw new InvalidInput(`${field} must be an object, got ${quote(value)}`, paramOf(field));
}

const paramOf = (field: string): string => field.split('.')[0]!;
