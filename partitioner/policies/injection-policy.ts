/**
 * `injection_policy.json` of a model folder: how a model that is no known family is cut, as data.
 *
 * In      the file; or an object of the automatic policy, which writes the same
 * Out     InjectionPolicy, checked against the schema below; policy-shape.ts makes a ModelShape of it
 * Limits  MAX_POLICY_BYTES; names of 200 characters; decoder blocks without experts (those need a family)
 * Errors  ServingError CHECKPOINT_INVALID naming file, field, value and what was expected
 * Doc     README.md of this folder: every field, with an example
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { TypeCompiler, type ValueError } from '@sinclair/typebox/compiler';
import { checkpointError, type JsonObject, readJsonFile } from '../checkpoint/json-file.js';

export const POLICY_FILE = 'injection_policy.json';
const MAX_POLICY_BYTES = 1 << 20;

const object = <P extends Record<string, TSchema>>(properties: P) =>
  Type.Object(properties, { additionalProperties: false });
const oneOf = <const T extends readonly string[]>(...words: T) =>
  Type.Union(words.map((word) => Type.Literal(word)) as never, {
    expects: `one of ${words.join(', ')}`,
  }) as unknown as ReturnType<typeof Type.Unsafe<T[number]>>;
const orNull = <S extends TSchema>(schema: S) =>
  Type.Union([schema, Type.Null()], { expects: expected(schema) });

/** A tensor's, without `.weight` and `.bias`. */
const Name = Type.String({
  pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$',
  expects: 'the name of a tensor without .weight',
});
const LayerPrefix = Type.String({
  pattern: '^(?:[A-Za-z0-9_-]+\\.){1,8}\\{layer\\}$',
  expects: 'a prefix that ends in {layer}, for example model.layers.{layer}',
});
const HeadNormName = Type.String({
  pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,190}(?:\\{head\\})?$',
  expects: 'the name of a tensor without .weight; {head} at its end stands for one tensor a head',
});
/** One `*` at most: patterns are matched against names that a stranger wrote. */
const TensorPattern = Type.String({
  pattern: '^[A-Za-z0-9_.-]{0,200}\\*?[A-Za-z0-9_.-]{0,200}$',
  minLength: 2,
  expects: 'the whole name of a tensor, with at most one * in it',
});
const Key = Type.String({ pattern: '^[A-Za-z0-9_]{1,100}$', expects: 'a key of config.json' });
const Above0 = Type.Number({ exclusiveMinimum: 0, expects: 'a number above 0' });
const FusedQkv = object({ name: Name, layout: oneOf('by_part', 'by_head') });

/** Keys of config.json by what they mean; absent ones have Llama's spelling. */
const ConfigKeyNames = object({
  hidden_size: Type.Optional(Key),
  num_hidden_layers: Type.Optional(Key),
  num_attention_heads: Type.Optional(Key),
  num_key_value_heads: Type.Optional(Key),
  intermediate_size: Type.Optional(Key),
  max_position_embeddings: Type.Optional(Key),
  hidden_act: Type.Optional(Key),
  norm_eps: Type.Optional(Key),
  rope_theta: Type.Optional(Key),
  partial_rotary_factor: Type.Optional(Key),
});

const Block = object({
  norm: oneOf('rms', 'layer'),
  norm_weight: Type.Optional(oneOf('as_stored', 'one_plus', 'none')),
  norm_bias: Type.Optional(Type.Boolean()),
  head_norm: Type.Optional(oneOf('per_head', 'own_scales', 'whole')),
  residual: oneOf('sequential', 'parallel'),
  positions: oneOf('rope_halves', 'rope_neighbours', 'learned', 'alibi_bloom', 'alibi_mpt', 'none'),
  biases: object({
    query_key_value: Type.Boolean(),
    attention_out: Type.Boolean(),
    mlp: Type.Boolean(),
    head: Type.Boolean(),
  }),
  /** Weights of the layers lie [in, out] (GPT-2's Conv1D). */
  transposed: Type.Optional(Type.Boolean()),
  windowed_layers: Type.Optional(oneOf('all', 'even', 'odd', 'none')),
  score_scale: Type.Optional(Above0),
  score_soft_cap: Type.Optional(Above0),
  query_key_value_clip: Type.Optional(Above0),
  residual_scale: Type.Optional(Above0),
  embedding_scale: Type.Optional(Above0),
  logit_scale: Type.Optional(Above0),
  logit_soft_cap: Type.Optional(Above0),
});

const Schema = object({
  layers: LayerPrefix,
  column_parallel: object({
    query: Type.Optional(Name),
    key: Type.Optional(Name),
    value: Type.Optional(Name),
    query_key_value: Type.Optional(FusedQkv),
    gate: Type.Optional(Name),
    up: Type.Optional(Name),
    gate_up: Type.Optional(Name),
  }),
  row_parallel: object({ attention_out: Name, down: Name }),
  norms: object({
    attention: orNull(Name),
    attention_post: Type.Optional(orNull(Name)),
    mlp: orNull(Name),
    mlp_post: Type.Optional(orNull(Name)),
    query: Type.Optional(HeadNormName),
    key: Type.Optional(HeadNormName),
    embedding: Type.Optional(Name),
    final: Name,
  }),
  embedding: Name,
  positions: Type.Optional(object({ name: Name, first_row: Type.Integer({ minimum: 0, maximum: 1024 }) })),
  head: Name,
  block: Block,
  config_keys: Type.Optional(ConfigKeyNames),
  config: Type.Optional(Type.Record(Key, Type.Unknown(), { maxProperties: 100 })),
  covered_config_keys: Type.Optional(Type.Array(Key, { maxItems: 200 })),
  ignored_tensors: Type.Optional(Type.Array(TensorPattern, { maxItems: 100 })),
});

export type InjectionPolicy = Static<typeof Schema>;

/**
 * @returns null when the folder has none
 * @throws ServingError CHECKPOINT_INVALID
 */
export function readInjectionPolicy(folder: string): InjectionPolicy | null {
  const file = path.join(folder, POLICY_FILE);
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return null;
  return checkInjectionPolicy(readJsonFile(file, MAX_POLICY_BYTES).object, file);
}

const compiled = TypeCompiler.Compile(Schema);

/** @param where file, for messages */
export function checkInjectionPolicy(value: JsonObject, where: string): InjectionPolicy {
  if (!compiled.Check(value)) {
    const [first] = compiled.Errors(value);
    throw checkpointError(where, first === undefined ? 'is no injection policy' : sentence(first));
  }
  checkTogether(value, where);
  return value;
}

/** What one field means for another. */
function checkTogether(
  { column_parallel: column, block, norms, positions }: InjectionPolicy,
  where: string,
): void {
  const wrong = (what: string): Error => checkpointError(where, what);
  const separate = [column.query, column.key, column.value].filter((name) => name !== undefined).length;
  if (separate !== (column.query_key_value === undefined ? 3 : 0)) {
    throw wrong('column_parallel needs either query, key and value, or query_key_value');
  }
  if ((column.up === undefined) === (column.gate_up === undefined)) {
    throw wrong('column_parallel needs either up (with gate, or alone) or gate_up');
  }
  if (column.gate !== undefined && column.up === undefined) throw wrong('column_parallel.gate needs up');
  if (column.gate_up !== undefined && block.transposed)
    throw wrong('block.transposed and gate_up exclude each other');
  if (
    (norms.query === undefined) !== (norms.key === undefined) ||
    (norms.query === undefined) !== (block.head_norm === undefined)
  ) {
    throw wrong('norms.query, norms.key and block.head_norm need each other');
  }
  if ((positions !== undefined) !== (block.positions === 'learned')) {
    throw wrong('positions names the table of block.positions "learned", and only of it');
  }
}

function sentence({ path: pointer, schema, value, message }: ValueError): string {
  const field = pointer.slice(1).replaceAll('/', '.');
  if (/^Unexpected property/.test(message)) return `${field} is no field of an injection policy`;
  const text = value === undefined ? 'missing' : (JSON.stringify(value) ?? '').slice(0, 80);
  return `${field || 'the policy'} is ${text}, expected ${expected(schema)}`;
}

function expected(schema: TSchema): string {
  if (typeof schema.expects === 'string') return schema.expects;
  return (
    { boolean: 'true or false', integer: 'a whole number', array: 'a list' }[schema.type as string] ??
    'an object'
  );
}
