/**
 * How shards attend: the part of the manifest that says where keys are and which segment runs when.
 *
 * In      part of manifest.json
 * Out     its schema
 */
import { type Static, Type } from '@sinclair/typebox';

const count = Type.Integer({ minimum: 0 });
const positive = Type.Integer({ minimum: 1 });
const name = Type.String({ pattern: '^[A-Za-z0-9._-]{1,100}$' });

/**
 * A segment that attends, and when: `window`, of layers with this window alone (absent: of all); and of the queries,
 * token         a single one: `query-H` [1, heads of H, dim] → `output-H`, likewise
 * chunk         several: `query` [1, s, heads·dim] → `output`; causality is bottom-right. Where keys are in the step (`keysIn`) they and
 *               the values are `key` and `value` [1, t, kvHeads·dim], and every token sees every other
 * masked-chunk  several for which one causal view cannot express the window (s > 1 and t > window), or, where keys are in the step, with a
 *               window to both sides: the same plus `mask` float32 [s, t], added to the scores
 * and on a device with memory of its own, where `past-key` and `past-value` float32 [1, kvHeads, slotTokens, dim] are a slot's buffers of a
 * layer and `present-key` and `present-value` the same memory (the new rows are written in place), `last` int32 [1] the sequence's rows less
 * one, `total` int32 [1] the rows, on the host:
 * alone         of a sequence that is alone in its step: `query`, `key`, `value` [1, s, …] → `output` [1, s, heads·dim]
 * packed        of one among several: the three are of all the step's tokens, `index` int64 [s] and `place` [s, 1] say which are the
 *               sequence's, and `output` [tokens, …] is `attended` with these rows written, in place
 */
const attendVariant = Type.Object({
  segment: name,
  when: Type.Object({
    queries: Type.Union([
      Type.Literal('token'),
      Type.Literal('chunk'),
      Type.Literal('masked-chunk'),
      Type.Literal('alone'),
      Type.Literal('packed'),
    ]),
    window: Type.Optional(Type.Union([positive, Type.Null()])),
  }),
});

/** Segments outside the program's order, and what they find. */
export const attend = Type.Object({
  /** The first that fits runs. */
  variants: Type.Array(attendVariant, { minItems: 1, maxItems: 64 }),
  /**
   * Where keys and values are: in the sequence's slot, written there first; or in the step alone, with the whole sequence,
   * of which every token sees every other and nothing is kept.
   */
  keysIn: Type.Union([Type.Literal('slot'), Type.Literal('step')]),
  /**
   * Sinks: keys and values (and the mask's columns) have one more row before those there are, seen by every query. Its key
   * is 1 in this column of each KV head and 0 elsewhere, its value is 0. Absent: no such row.
   */
  sinkColumn: Type.Optional(count),
  /** ALiBi: in this column of each KV head a key has its position. Absent: there is no such column. */
  positionColumn: Type.Optional(count),
  /**
   * A value is its key (multi-head latent attention): the cache has keys alone, and the buffer of both is one. Absent: it has keys and
   * values.
   */
  valuesAreKeys: Type.Optional(Type.Literal(true)),
  /** Segments add to scores what they know of distances: our own kernels do not attend then. Absent: they add nothing. */
  bias: Type.Optional(Type.Literal('relative')),
  /**
   * Vectors of distances, of which each layer makes queries and keys, so many rows: segment `distances-L` of layer L, without inputs, makes
   * `distance-query` and `distance-key` [rows, heads · dim] once, which attention of this layer then reads. Our own kernels do not attend
   * then. Absent: there are none.
   */
  distanceRows: Type.Optional(positive),
  /** Scores s become softCap · tanh(s / softCap). Absent: they stay. */
  softCap: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  /**
   * Where a device has memory of its own (absent: cpu): `from` and `to` [rows, dim], `index` int64 [n], `place` [n, 1] → `copied`: `to`
   * with these rows of `from`, in place.
   */
  copyRows: Type.Optional(name),
  /** Keys and values in a slot of a device with memory of its own, and the rows that copyRows copies; absent: float32. */
  cacheType: Type.Optional(Type.Union([Type.Literal('float32'), Type.Literal('float16')])),
});

export type Attend = Static<typeof attend>;
export type AttendVariant = Static<typeof attendVariant>;
