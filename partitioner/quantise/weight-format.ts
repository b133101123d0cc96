/**
 * In which format weights are written: `--dtype`, `--block-size`, … → WeightFormat, and the sizes that follow from it.
 *
 * Limits  blocks of 32, 64, 128 or 256 weights, with ONNX Runtime's operators also 16
 * Errors  ServingError CONFIG_INVALID
 * Source  quantise/panels.ts for our kernels; ONNX Runtime's MatMulNBits for the other layout
 */
import { ServingError } from '../../proto/errors.js';
import type { Manifest } from '../../proto/manifest.js';
import { EIGHT_BIT_GROUPS } from '../../proto/partition.js';
import { BLOCK_SIZES, type BlockFormat, type QuantisedBits } from './block-quantise.js';
import { PANEL_BLOCK_SIZES, type PanelFormat } from './panels.js';

export type WeightFormat = Manifest['weightFormat'];
export type Dtype = 'auto' | WeightFormat['dtype'];
export type Layout = WeightFormat['layout'];
export type EightBitGroup = WeightFormat['eightBit'][number];

export const DEFAULT_BLOCK_SIZE = 32;
export const DEFAULT_REPRODUCIBLE_DEGREE = 4;

/** A model that takes less than this in float32 stays in float32: it is small enough not to care. */
export const AUTO_FP32_BYTES = 200_000_000;

/** With fewer parameters int4 is felt (LIMITS.md): `auto` takes int8. */
export const AUTO_INT4_PARAMETERS = 1e9;

/** Below it rows keep 16 bits: nearly all that int8 loses is rows of 8 bits, and a small model is the one that feels it (README, 2026-11-30). */
export const AUTO_WIDE_PARAMETERS = 1e9;

/** In a model of fewer the first and the last are too much of it to be left at 8 bits. */
const MANY_LAYERS = 12;

/** What int4 leaves at 8 bits in panels: in small models what costs most at 4, by measurement (README, 2026-11-30). */
function automaticEightBit(isSmall: boolean, numLayers: number): readonly EightBitGroup[] {
  if (!isSmall) return ['head'];
  return numLayers < MANY_LAYERS ? ['head', 'qkv'] : ['head', 'qkv', 'first', 'last'];
}

function automaticDtype(parameters: number): 'fp32' | 'int8' | 'int4' {
  if (parameters * 4 < AUTO_FP32_BYTES) return 'fp32';
  return parameters < AUTO_INT4_PARAMETERS ? 'int8' : 'int4';
}

/** Rows and columns of a slice of floats are padded to so many: one AVX-512 register. */
const FP32_UNIT = 16;

export const FP32_FORMAT: WeightFormat = {
  dtype: 'fp32',
  layout: 'blocks',
  blockSize: null,
  symmetric: true,
  scales: 'nearest',
  eightBit: [],
  reproducibleDegree: 1,
};

/** What a user may say of it; what is left out is the default. */
export interface FormatOptions {
  dtype?: Dtype | undefined;
  /** ONNX Runtime's operators' unless our own kernels are asked for. */
  layout?: Layout | undefined;
  /** Weights that share a scale (int8, int4). */
  blockSize?: number | undefined;
  /** false: each block has a zero point. */
  symmetric?: boolean | undefined;
  scales?: WeightFormat['scales'] | undefined;
  /** Linears that int4 leaves at 8 bits. */
  eightBit?: readonly EightBitGroup[] | undefined;
  /** int8 and int4 give the same bits at every degree that divides it (degrees.ts). */
  reproducibleDegree?: WeightFormat['reproducibleDegree'] | undefined;
  /** What rows are rounded to that meet int8 and int4; by the model's size and the layout unless it is said. */
  activationBits?: WeightFormat['activationBits'] | undefined;
}

/**
 * Weights of 16 bits need our own kernels: without them they are float32.
 * @throws ServingError CONFIG_INVALID: a block size there is no kernel for
 */
export function chooseWeightFormat(
  options: FormatOptions,
  parameters: number,
  numLayers: number,
): WeightFormat {
  const { dtype = 'auto', layout = 'blocks', blockSize = DEFAULT_BLOCK_SIZE } = options;
  const { reproducibleDegree = DEFAULT_REPRODUCIBLE_DEGREE } = options;
  const blockSizes = layout === 'panels' ? PANEL_BLOCK_SIZES : BLOCK_SIZES;
  if (!blockSizes.includes(blockSize)) {
    throw new ServingError(
      'CONFIG_INVALID',
      `block size ${blockSize} is not one of ${blockSizes.join(', ')}`,
    );
  }
  const chosen = dtype === 'auto' ? automaticDtype(parameters) : dtype;
  if (chosen !== 'int8' && chosen !== 'int4') {
    return layout === 'blocks' ? FP32_FORMAT : { ...FP32_FORMAT, dtype: chosen, layout, reproducibleDegree };
  }
  // What keeps a real model alive at 4 bits (README, 2026-11-30). MatMulNBits has no zero points but whole codes, which do not.
  const isOurs = chosen === 'int4' && layout === 'panels';
  const isSmall = layout === 'panels' && parameters < AUTO_WIDE_PARAMETERS;
  const kept = isOurs ? automaticEightBit(isSmall, numLayers) : [];
  const { symmetric = !isOurs, scales = 'search', eightBit = kept } = options;
  const { activationBits = isSmall ? 16 : 8 } = options;
  const common = { dtype: chosen, layout, blockSize, symmetric, reproducibleDegree, activationBits };
  // By what inputs count, which the model must be run for: where it is small.
  const isSearched = isSmall && symmetric;
  if (chosen === 'int8') return { ...common, scales: isSearched ? scales : 'nearest', eightBit: [] };
  return { ...common, scales, eightBit: EIGHT_BIT_GROUPS.filter((group) => eightBit.includes(group)) };
}

/** Latents' matrices, one for each head: 8 bits wherever weights are quantised, whatever the checkpoint has of them. */
export const OF_HEADS = /\.(?:key|value)-up$/;

/**
 * Bits of a linear's stored weights.
 *
 * @param linear name of its item: head, layer-0.qkv, layer-0.attention-out, layer-0.gate-up, layer-0.down, …
 * @returns null: floats
 */
export function linearBits(format: WeightFormat, linear: string, numLayers: number): QuantisedBits | null {
  if (format.dtype === 'int8') return 8;
  if (format.dtype !== 'int4') return null;
  if (OF_HEADS.test(linear)) return 8;
  const isIn: Record<EightBitGroup, boolean> = {
    head: linear === 'head',
    qkv: /\.(?:qkv|latents|query)$/.test(linear),
    first: linear.startsWith('layer-0.'),
    last: linear.startsWith(`layer-${numLayers - 1}.`),
    down: linear.endsWith('.down'),
  };
  return format.eightBit.some((group) => isIn[group]) ? 8 : 4;
}

/** Whose codes a checkpoint has that the format holds (coded-format.ts): this linear's, only those of others, or none at all. */
export type Codes = 'own' | 'others' | 'none';

/** What is in codes of a linear that is made of `sources`. */
export function codesOf(coded: ReadonlyMap<string, unknown>, sources: readonly string[]): Codes {
  if (coded.size === 0) return 'none';
  return sources.every((source) => coded.has(source)) ? 'own' : 'others';
}

/** How a linear is quantised; null: floats. @param blockSize of the quantised linear */
export function linearFormat(
  format: WeightFormat,
  linear: string,
  numLayers: number,
  blockSize: number | null,
  codes: Codes,
): BlockFormat | null {
  if (blockSize === null) return null;
  const half = format.layout === 'panels';
  const isInt4 = format.dtype === 'int4';
  if (codes === 'own') return { bits: isInt4 ? 4 : 8, blockSize, symmetric: !isInt4, search: false, half };
  const bits = isInt4 && codes === 'others' ? 8 : linearBits(format, linear, numLayers);
  if (bits === null) return null;
  return { bits, blockSize, symmetric: format.symmetric, search: format.scales === 'search', half };
}

/** Whether it matters to a format how much each input counts. */
export const usesImportance = ({ dtype, layout, scales, symmetric }: WeightFormat): boolean =>
  layout === 'panels' && scales === 'search' && (dtype === 'int8' || (dtype === 'int4' && !symmetric));

/** How a linear's panels are made; null: it has none. @param blocks as linearFormat says */
export function panelFormat(format: WeightFormat, blocks: BlockFormat | null): PanelFormat | null {
  if (format.layout === 'blocks') return null;
  if (blocks !== null) {
    const { bits, blockSize, symmetric } = blocks;
    return { bits, blockSize, zero: !symmetric, bfloat: false };
  }
  return {
    bits: format.dtype === 'fp32' ? 32 : 16,
    blockSize: 0,
    zero: false,
    bfloat: format.dtype === 'bf16',
  };
}

/** Columns of a row-parallel slice come in multiples of this: whole blocks. */
export function columnUnit(format: WeightFormat): number {
  return format.blockSize ?? FP32_UNIT;
}
