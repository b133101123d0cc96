/**
 * What the server and the partitioner say to each other: one request as JSON on the command line, one event a line back.
 *
 * In      a PartitionRequest; options left out take the partitioner's own defaults; a line where it waits for one
 * Out     PartitionEvents: the plan, that a calibration begins, progress, and one of done or error
 * Limits  a line that is no event is dropped by the reader
 * Errors  readPartitionRequest throws CONFIG_INVALID naming the field
 */
import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { ServingError } from './errors.js';
import { MAX_WORLD_SIZE } from './limits.js';

export const DTYPES = ['auto', 'fp32', 'fp16', 'bf16', 'int8', 'int4'] as const;
export const LAYOUTS = ['panels', 'blocks'] as const;
export const SHARD_DEVICES = ['cpu', 'webgpu', 'cuda'] as const;
export const SCALES = ['search', 'nearest'] as const;
/** Linears that int4 may leave at 8 bits: the head; those of queries, keys and values; all of the first or last layer; the MLPs' down projections. */
export const EIGHT_BIT_GROUPS = ['head', 'qkv', 'first', 'last', 'down'] as const;
/** Degrees that divide the one chosen give int8 and int4 models the same bits. */
export const REPRODUCIBLE_DEGREES = [1, 2, 4, 8] as const;
/** What rows are rounded to that meet weights of int8 and int4. */
export const ACTIVATION_BITS = [8, 16] as const;
export const POLICY_KINDS = ['family', 'injection', 'automatic'] as const;

export const oneOf = <T extends string | number>(values: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(values.map((value) => Type.Literal(value))));
const bytes = Type.Integer({ minimum: 0 });
const count = Type.Integer({ minimum: 0 });

const request = Type.Object(
  {
    /** Model folder. */
    folder: Type.String({ minLength: 1 }),
    /** Folder of the shard store; made if it is not there. */
    store: Type.String({ minLength: 1 }),
    /** Tensor parallel degree. */
    tp: Type.Integer({ minimum: 1, maximum: MAX_WORLD_SIZE }),
    dtype: oneOf(DTYPES),
    layout: Type.Optional(oneOf(LAYOUTS)),
    /** What the shards are for; absent: cpu. */
    device: Type.Optional(oneOf(SHARD_DEVICES)),
    /** Weights that share a scale (int8, int4). */
    blockSize: Type.Optional(Type.Integer({ minimum: 1 })),
    /** false: each block has a zero point. */
    symmetric: Type.Optional(Type.Boolean()),
    scales: Type.Optional(oneOf(SCALES)),
    eightBit: Type.Optional(Type.Array(oneOf(EIGHT_BIT_GROUPS))),
    reproducibleDegree: Type.Optional(oneOf(REPRODUCIBLE_DEGREES)),
    activationBits: Type.Optional(oneOf(ACTIVATION_BITS)),
    /** Tell the plan and write nothing: needs config.json alone. */
    planOnly: Type.Optional(Type.Boolean()),
    /** Tell the plan, and go on once a line has come on standard input; its end without one ends the work. */
    waits: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

/** Further fields are for people: rows of the plan have more than the server reads. */
const plan = Type.Object({
  event: Type.Literal('plan'),
  architecture: Type.String(),
  worldSize: count,
  /** One rank's, without the shared file, which all ranks map. */
  bytesPerRank: bytes,
  sharedBytes: bytes,
  kvBytesPerTokenPerRank: Type.Number({ minimum: 0 }),
  /** Numbers that one token has in a rank's buffers: the manifest's, summed up. */
  activationColumns: count,
  contextLength: count,
  /** Tokens of a text, of an embedding model; null: it generates. */
  textTokens: Type.Union([count, Type.Null()]),
  /** A text's vector are scores of labels. */
  hasLabels: Type.Boolean(),
  /** The checkpoint brings a text's vector to length 1 itself. */
  isNormalised: Type.Boolean(),
  /** Ranks have equally many heads. */
  isEven: Type.Boolean(),
  policy: Type.Object({
    kind: oneOf(POLICY_KINDS),
    /** How the model was recognised, in a sentence. */
    summary: Type.String(),
    /** What no file says and the policy takes to be so. */
    assumed: Type.Array(Type.String()),
    /** What weights that are no floats are stored as, and what becomes of them; what of floats int4 leaves at 8 bits: a sentence. */
    weights: Type.Optional(Type.String()),
  }),
});
/** The model is run over texts, to see which inputs count when its weights are rounded: seconds to minutes without progress. */
const calibration = Type.Object({ event: Type.Literal('calibration') });
const progress = Type.Object({ event: Type.Literal('progress'), doneBytes: bytes, totalBytes: bytes });
const done = Type.Object({
  event: Type.Literal('done'),
  shardFolder: Type.String(),
  /** The shards were there already. */
  reused: Type.Boolean(),
});
const error = Type.Object({ event: Type.Literal('error'), code: Type.String(), message: Type.String() });

export type PartitionRequest = Static<typeof request>;
export type PartitionPolicy = Static<typeof plan>['policy'];
export type PartitionPlan = Omit<Static<typeof plan>, 'event'>;
export type PartitionEvent =
  | Static<typeof plan>
  | Static<typeof calibration>
  | Static<typeof progress>
  | Static<typeof done>
  | Static<typeof error>;

const EVENTS: Readonly<Record<PartitionEvent['event'], TSchema>> = {
  plan,
  calibration,
  progress,
  done,
  error,
};

/** @throws ServingError CONFIG_INVALID */
export function readPartitionRequest(text: string): PartitionRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ServingError('CONFIG_INVALID', '--request is not JSON', { cause });
  }
  if (Value.Check(request, value)) return value;
  const first = Value.Errors(request, value).First();
  throw new ServingError(
    'CONFIG_INVALID',
    `--request: ${first?.path || '/'}: ${first?.message ?? 'not a request'}`,
  );
}

/** null: a line that is no event, or one that only people read. */
export function readPartitionEvent(line: string): PartitionEvent | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const { event } = (value ?? {}) as { event?: unknown };
  if (typeof event !== 'string' || !Object.hasOwn(EVENTS, event)) return null;
  return Value.Check(EVENTS[event as PartitionEvent['event']], value) ? (value as PartitionEvent) : null;
}
