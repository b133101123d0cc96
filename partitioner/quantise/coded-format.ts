/**
 * int4 of a checkpoint that is in 4-bit codes, and int8 of one that is in 8-bit codes: its own codes, scales and zero points, not others.
 *
 * In      what is in codes (TensorSource.coded, or what config.json lets expect), the format that was asked for
 * Out     the format with blocks that the groups consist of
 * Rules   Groups that our own kernels have no block for are laid out for ONNX Runtime's operators. The largest block of which every group consists: a group of 128 is one block of 128, one of 1024 four of 256 with the
 *         same scale. The output projection may need smaller ones (degrees.ts), which changes no weight either.
 *         Linears that the checkpoint left in floats are written at 8 bits: it did not mean to round them to 4.
 *         Where the columns of a group lie apart (GPTQ's desc_act) codes cannot be handed on, since a block is of neighbours:
 *         `auto` writes int8, int4 is refused.
 * Errors  ServingError CONFIG_INVALID
 * Pure
 */
import { ServingError } from '../../proto/errors.js';
import type { Quantisation } from '../checkpoint/quantisation.js';
import type { CodedInfo } from '../checkpoint/tensor-source.js';
import type { ModelShape } from '../plan/model-shape.js';
import { roleTensors } from '../plan/role-tensors.js';
import { BLOCK_SIZES } from './block-quantise.js';
import { PANEL_BLOCK_SIZES } from './panels.js';
import {
  AUTO_FP32_BYTES,
  chooseWeightFormat,
  type Dtype,
  type FormatOptions,
  type WeightFormat,
} from './weight-format.js';

export type CodedTensors = ReadonlyMap<string, CodedInfo>;

const LINEAR = /^layer-\d+\.(.+\.)?(query|key|value|attention-out|gate|up|down)\.weight$/;

/** Those whose codes a format holds as they are. */
export function heldCodes(
  coded: CodedTensors,
  { dtype, layout }: Pick<WeightFormat, 'dtype' | 'layout'>,
): CodedTensors {
  if (dtype !== 'int4' && dtype !== 'int8') return new Map();
  const bits = dtype === 'int4' ? 4 : 8;
  const isHeld = ({ anyZero = false, ...info }: CodedInfo): boolean =>
    (info.bits ?? 4) === bits && (layout === 'panels' || !anyZero);
  return new Map([...coded].filter(([, info]) => isHeld(info)));
}

/** What config.json lets expect: all linears of the layers. */
export function expectedCodes(shape: ModelShape, quantisation: Quantisation | null): CodedTensors {
  if (quantisation === null || quantisation.method === 'mxfp4') return new Map();
  const bits = 'scale' in quantisation ? quantisation.bits : 4;
  if ('scale' in quantisation) {
    const { asymmetric, block, kind } = quantisation;
    if (kind === 'float' || block !== null || (bits === 8 && asymmetric)) return new Map();
  }
  const linears = roleTensors(shape).filter(({ role }) => LINEAR.test(role));
  return new Map(
    linears.map(({ name, shape: size }) => [
      name,
      { groupSize: quantisation.groupSize ?? size[1] ?? 1, isContiguous: true, bits },
    ]),
  );
}

/** @throws ServingError CONFIG_INVALID */
export function chooseCodedFormat(
  options: FormatOptions,
  parameters: number,
  coded: CodedTensors,
  numLayers: number,
): WeightFormat {
  const format = chooseWeightFormat(
    { ...options, dtype: codedDtype(options, parameters, coded) },
    parameters,
    numLayers,
  );
  const held = heldCodes(coded, format);
  if (held.size === 0) return format;
  const apart = [...held].find(([, { isContiguous }]) => !isContiguous);
  if (apart) {
    if (options.dtype !== 'int4')
      return chooseWeightFormat({ ...options, dtype: 'int8' }, parameters, numLayers);
    throw new ServingError(
      'CONFIG_INVALID',
      `dtype int4: the groups of ${apart[0]} are columns in the order of importance (desc_act), whose codes cannot be taken as they are; use int8 or fp32, or a checkpoint with desc_act false`,
    );
  }
  const groups = [...held.values()].map(({ groupSize }) => groupSize);
  const largest = (sizes: readonly number[]): number | undefined =>
    sizes.findLast((size) => groups.every((group) => group % size === 0));
  const ofPanels = format.layout === 'panels' ? largest(PANEL_BLOCK_SIZES) : undefined;
  const blockSize = ofPanels ?? largest(BLOCK_SIZES);
  if (blockSize === undefined) {
    // 8 bits lose next to nothing anyway.
    if (format.dtype === 'int8') return format;
    throw new ServingError(
      'CONFIG_INVALID',
      `dtype int4: groups of ${Math.min(...groups)} columns are not made of blocks of ${BLOCK_SIZES.join(', ')}; use int8 or fp32`,
    );
  }
  const layout = ofPanels === undefined ? 'blocks' : 'panels';
  return chooseWeightFormat({ ...options, dtype: format.dtype, layout, blockSize }, parameters, numLayers);
}

/** `auto`: what was rounded to 4 bits already loses nothing by staying so, whatever the model's size. */
function codedDtype({ dtype = 'auto' }: FormatOptions, parameters: number, coded: CodedTensors): Dtype {
  if (dtype !== 'auto' || parameters * 4 < AUTO_FP32_BYTES) return dtype;
  const infos = [...coded.values()];
  const ofFour = infos.filter(({ bits = 4, isContiguous }) => bits === 4 && isContiguous);
  return ofFour.length > infos.length / 2 ? 'int4' : dtype;
}
