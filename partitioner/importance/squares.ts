/**
 * A plan whose segments also tell, for every linear, the sum of the squares of each of its inputs: what a calibration reads.
 *
 * In      a plan for one rank
 * Out     the same with a buffer [1, inputs] a linear, named squaresName(linear), and the outputs bound to them
 * Limits  one rank, and no pieces: a rank of several sees a part of its inputs only
 * Pure
 */
import assert from 'node:assert/strict';
import type { ManifestBuffer } from '../../proto/manifest.js';
import type { Plan } from '../plan/plan.js';
import type { LinearItem } from '../plan/plan-item.js';
import { OF_HEADS } from '../quantise/weight-format.js';

/** What stands before attention: with latents two linears instead of one. */
const BEFORE_ATTENTION: readonly string[] = ['qkv', 'latents', 'query'];

export const squaresName = (linear: string): string => `${linear}.squares`;

export function tellSquares(plan: Plan): Plan {
  assert(plan.worldSize === 1 && plan.piecesPerRank === 1, 'squares are told by one whole rank');
  const linears = plan.items.filter(
    (item): item is LinearItem => item.kind === 'linear' && !OF_HEADS.test(item.name),
  );
  const buffers = linears.map(
    ({ inputs, name }): ManifestBuffer => ({
      ...{ name: squaresName(name), type: 'float32', first: 'one', columns: inputs },
      ...{ shape: 'rank2', place: 'worker' },
    }),
  );
  const program = plan.program.map((op) => {
    if (op.op !== 'run') return op;
    const own = linears.filter(({ name }) => isOf(name, op.segment)).map(({ name }) => squaresName(name));
    return { ...op, outputs: { ...op.outputs, ...Object.fromEntries(own.map((name) => [name, name])) } };
  });
  return { ...plan, tellsSquares: true, buffers: [...plan.buffers, ...buffers], program };
}

/** Whether a segment has a linear: layer-0.qkv is of layer-0-qkv. */
function isOf(linear: string, segment: string): boolean {
  const layer = /^(layer-\d+)\.(.+)$/.exec(linear);
  if (layer === null) return linear === segment;
  const [, name = '', role = ''] = layer;
  if (BEFORE_ATTENTION.includes(role)) return segment === `${name}-qkv`;
  const own = role === 'attention-out' ? 'out' : 'mlp';
  return segment === `${name}-${own}` || segment === `${name}-out-mlp`;
}
