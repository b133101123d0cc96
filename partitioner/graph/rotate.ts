/**
 * The rotary operator: positions turn what each head has.
 *
 * In      x [1, tokens, heads · columns], the tables of a rope as inputs of the graph
 * Out     a node; of heads that are rotated in part the first columns are
 */
import type { RopeShape } from '../plan/model-shape.js';
import { ropeName } from '../plan/plan-items.js';
import type { OnnxWriter } from './onnx-writer.js';

export interface Rotation {
  /** Which of the shape's ropes. */
  rope: number;
  ropes: readonly RopeShape[];
  heads: number;
  /** Columns of a head that turn; null: all. */
  rotaryDim: number | null;
}

export function rotate(
  graph: OnnxWriter,
  x: string,
  output: string,
  { heads, rope, ropes, rotaryDim }: Rotation,
): string {
  return graph.node(
    'RotaryEmbedding',
    [x, 'positions', ropeName(rope, 'cos'), ropeName(rope, 'sin')],
    [output],
    {
      num_heads: heads,
      interleaved: ropes[rope]?.interleaved ? 1 : 0,
      ...(rotaryDim === null ? {} : { rotary_embedding_dim: rotaryDim }),
    },
    'com.microsoft',
  );
}
