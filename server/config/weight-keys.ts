/**
 * Keys of a model that say how int8 and int4 weights are written; this server's own.
 *
 * Source  partitioner/quantise/weight-format.ts, whose defaults these are
 */
import { EIGHT_BIT_GROUPS } from '../../proto/partition.js';
import { type KeyRow, modelKey } from './key-row.js';
import { choice, oneOf, someOf } from './value-types.js';

export const WEIGHT_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.quantize_block_size',
    'blockSize',
    choice<number | null>({
      auto: { value: null },
      16: { value: 16 },
      32: { value: 32 },
      64: { value: 64 },
      128: { value: 128 },
      256: { value: 256 },
    }),
    null,
    'weights that share a scale in int8 and int4 (ours); auto: 32',
  ),
  modelKey(
    'option.quantize_symmetric',
    'symmetric',
    choice<boolean | null>({ auto: { value: null }, true: { value: true }, false: { value: false } }),
    null,
    'false: int8 and int4 keep a zero point with each scale (ours); auto: int4 does where our own kernels run',
  ),
  modelKey(
    'option.quantize_scales',
    'scales',
    oneOf('search', 'nearest'),
    'search',
    'how int4 finds its scales, and int8 below a billion parameters (ours); search: the best of several by squared error, nearest: by the largest weight of a block',
  ),
  modelKey(
    'option.quantize_8bit',
    'eightBit',
    someOf(...EIGHT_BIT_GROUPS),
    null,
    "what int4 leaves at 8 bits (ours): the head, what makes queries, keys and values, all of the first or last layer, the MLPs' down projections; not given: where our own kernels run the head, below a billion parameters qkv too, and of at least 12 layers the first and the last",
  ),
  modelKey(
    'option.reproducible_degree',
    'reproducibleDegree',
    choice<1 | 2 | 4 | 8>({ 1: { value: 1 }, 2: { value: 2 }, 4: { value: 4 }, 8: { value: 8 } }),
    4,
    'degrees that divide it give int8 and int4 models the same text (ours); 1: each adds in its own order',
  ),
  modelKey(
    'option.quantize_activations',
    'activationBits',
    choice<8 | 16 | null>({ auto: { value: null }, 8: { value: 8 }, 16: { value: 16 } }),
    null,
    'bits of the rows that meet int8 and int4 weights, 32 values a scale (ours); auto: 16 below a billion parameters where our own kernels run, else 8',
  ),
];
