/**
 * Which heads `--verify` expects on a rank, apart from the plan's own dealing (plan/rank-slices.ts).
 *
 * In      ModelShape, manifest, rank
 * Out     the rank's queries; the rows of query, key and value that ought to lie on it
 * Errors  ServingError SHARDS_INVALID: fewer KV heads than the rank's queries read
 * Pure
 */
import type { Manifest, TensorEntry } from '../../proto/manifest.js';
import type { ModelShape } from '../plan/model-shape.js';
import { invalid } from './verify-error.js';
import type { Run } from './verify-panels.js';

/** Query heads of a rank: KV heads, or ranks where these are more, are dealt out one after another, lower ones first. */
export function queriesOf(
  { numHeads, numKvHeads }: ModelShape,
  worldSize: number,
  rank: number,
): { first: number; count: number } {
  const group = numHeads / numKvHeads;
  const counts = new Array<number>(worldSize).fill(0);
  if (worldSize <= numKvHeads) {
    for (let head = 0; head < numKvHeads; head++) counts[head % worldSize]! += group;
  } else {
    let firstRank = 0;
    for (let head = 0; head < numKvHeads; head++) {
      const ranks = Math.floor((worldSize - head - 1) / numKvHeads) + 1;
      for (let query = 0; query < group; query++) counts[firstRank + (query % ranks)]!++;
      firstRank += ranks;
    }
  }
  const first = counts.slice(0, rank).reduce((sum, count) => sum + count, 0);
  return { first, count: counts[rank]! };
}

/**
 * Rows of what stands beside latents: the linear that makes these is whole on every rank, the others have rows by query head.
 *
 * @returns null: another linear
 */
export function latentRuns(
  shape: ModelShape,
  { perRank, worldSize }: Manifest,
  rank: number,
  { name, sources }: Pick<TensorEntry, 'name' | 'sources'>,
  heightOf: (source: string) => number,
): Run[] | null {
  const [, role = ''] = /^layer-\d+\.(latents|query|key-up|value-up)\./.exec(name) ?? [];
  if (shape.latent === null || role === '') return null;
  if (role === 'latents') {
    let firstRow = 0;
    return sources.map((source) => {
      const rows = heightOf(source);
      firstRow += rows;
      return { source, firstSourceRow: 0, firstRow: firstRow - rows, rows };
    });
  }
  const [source = ''] = sources;
  const width = heightOf(source) / shape.numHeads;
  const { first, count } = queriesOf(shape, worldSize, rank);
  const runs = [
    { source, firstSourceRow: first * width, firstRow: 0, rows: count * width },
    {
      source: null,
      firstSourceRow: 0,
      firstRow: count * width,
      rows: (perRank.numHeads - count) * width,
    },
  ];
  return runs.filter((run) => run.rows > 0);
}

/**
 * Rows of query, key and value: queries first..last read the KV heads of their groups; keys and values of these, and no others, lie
 * on the rank, and padding where other ranks have more.
 *
 * @param sources of the three
 * @throws ServingError SHARDS_INVALID
 */
export function headRuns(
  shape: ModelShape,
  { perRank, worldSize }: Manifest,
  rank: number,
  sources: readonly string[],
): Run[] {
  const { headDim, headNorm } = shape;
  const { numHeads, numKvHeads } = perRank;
  const group = shape.numHeads / shape.numKvHeads;
  const { first: firstQuery, count: queries } = queriesOf(shape, worldSize, rank);
  const firstKv = Math.floor(firstQuery / group);
  const kvHeads = Math.floor((firstQuery + queries - 1) / group) - firstKv + 1;
  if (kvHeads > numKvHeads) {
    throw invalid(`rank ${rank} holds ${numKvHeads} KV heads, its queries read ${kvHeads}`);
  }
  // Under a norm over all heads every rank computes all queries and keys.
  const isWhole = headNorm === 'whole';
  const all = [shape.numHeads, shape.numKvHeads];
  const firstHeads = isWhole ? [0, 0, firstKv] : [firstQuery, firstKv, firstKv];
  const heads = isWhole ? [...all, kvHeads] : [queries, kvHeads, kvHeads];
  const rowsOf = isWhole ? [...all, numKvHeads] : [numHeads, numKvHeads, numKvHeads];
  let firstRow = 0;
  return sources.flatMap((source, part) => {
    const real = heads[part]! * headDim;
    const height = rowsOf[part]! * headDim;
    const runs = [
      { source, firstSourceRow: firstHeads[part]! * headDim, firstRow, rows: real },
      { source: null, firstSourceRow: 0, firstRow: firstRow + real, rows: height - real },
    ];
    firstRow += height;
    return runs.filter((run) => run.rows > 0);
  });
}
