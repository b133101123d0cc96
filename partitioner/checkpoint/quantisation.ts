/**
 * How config.json says that the weights were quantised: what can be read, and one sentence for what cannot.
 *
 * In      config.json's `quantization_config`
 * Out     Quantisation; null: the weights are floats
 * Errors  ServingError CHECKPOINT_INVALID naming what was found and what to do instead
 * Source  compressed-tensors quantization/quant_args.py and quant_scheme.py; transformers utils/quantization_config.py; AutoGPTQ and GPTQModel (checkpoint_format), AutoAWQ (version)
 */

import type { CheckpointConfig } from './config-file.js';
import type { ConfigSection } from './config-section.js';
import { checkpointError } from './json-file.js';

export type Quantisation =
  /** Stacks of experts in blocks of 32 (mxfp4-source.ts). */
  | { method: 'mxfp4' }
  /** Linears in 4-bit codes (coded-source.ts). */
  | {
      method: 'gptq' | 'awq';
      /** Inputs that share a scale; null: all of a row. */
      groupSize: number | null;
      /** Zero points are stored less one. */
      lessOne: boolean;
    }
  | ScaledQuantisation;

/** Linears in whole numbers or floats of 8 bits, and scales beside them (scaled-source.ts). */
export interface ScaledQuantisation {
  method: 'compressed-tensors' | 'fp8' | 'fbgemm_fp8';
  /** What is behind the linear's name. */
  scale: 'weight_scale' | 'weight_scale_inv';
  kind: 'integer' | 'float';
  bits: 4 | 8;
  /** Zero points are stored. */
  asymmetric: boolean;
  /** Inputs that share a scale; null: all of a row (or of a block, or the tensor). */
  groupSize: number | null;
  /** Outputs and inputs that share one; null: none. */
  block: readonly [number, number] | null;
}

/** Groups in use; others would be a damaged config.json. */
const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256, 512, 1024];

/** @throws ServingError CHECKPOINT_INVALID */
export function readQuantisation(config: CheckpointConfig): Quantisation | null {
  const section = config.section('quantization_config');
  if (section === null) return null;
  switch (section.nullableString('quant_method')) {
    case 'mxfp4':
      return { method: 'mxfp4' };
    case 'gptq':
      return readGptq(section);
    case 'awq':
      return readAwq(section);
    case 'compressed-tensors':
      return readCompressed(section);
    case 'fp8':
      return floats('fp8', 'weight_scale_inv', readBlock(section, 'weight_block_size'));
    case 'fbgemm_fp8':
      return floats('fbgemm_fp8', 'weight_scale', null);
    case 'bitsandbytes':
      throw refused(section, 'bitsandbytes keeps no codes that can be split');
    default: {
      const method = section.nullableString('quant_method') ?? 'absent';
      throw refused(
        section,
        `quant_method ${method} is not read (gptq, awq, compressed-tensors, fp8, fbgemm_fp8 and mxfp4 are)`,
      );
    }
  }
}

function readGptq(section: ConfigSection): Quantisation {
  requireFourBits(section, section.positiveInteger('bits'));
  const format = section.nullableString('checkpoint_format') ?? section.nullableString('format') ?? 'gptq';
  if (section.boolean('is_marlin_format', false) || (format !== 'gptq' && format !== 'gptq_v2')) {
    const found = format === 'gptq' ? 'marlin' : format;
    throw refused(section, `GPTQ's layout "${found}" is not read (gptq and gptq_v2 are)`);
  }
  if (Object.keys(section.section('dynamic')?.raw ?? {}).length > 0) {
    throw refused(section, 'linears with a format of their own ("dynamic") are not read');
  }
  return { method: 'gptq', groupSize: readGroupSize(section, 'group_size'), lessOne: format === 'gptq' };
}

function readAwq(section: ConfigSection): Quantisation {
  requireFourBits(section, section.positiveInteger(section.has('bits') ? 'bits' : 'w_bit'));
  const version = section.string('version', 'gemm').toLowerCase();
  if (version !== 'gemm') throw refused(section, `AWQ's layout "${version}" is not read (gemm is)`);
  if (!section.boolean('zero_point', true)) throw refused(section, 'AWQ without zero points is not read');
  const groupSize = readGroupSize(section, section.has('group_size') ? 'group_size' : 'q_group_size');
  return { method: 'awq', groupSize, lessOne: false };
}

const floats = (
  method: ScaledQuantisation['method'],
  scale: ScaledQuantisation['scale'],
  block: ScaledQuantisation['block'],
): ScaledQuantisation => {
  return { method, scale, kind: 'float', bits: 8, asymmetric: false, groupSize: null, block };
};

/** One format for all linears; how activations are rounded is our own affair. */
function readCompressed(section: ConfigSection): ScaledQuantisation {
  const groups = section.section('config_groups');
  const names = Object.keys(groups?.raw ?? {});
  const weights = names.map((name) => groups?.section(name)?.section('weights') ?? null);
  const [first = null] = weights;
  if (first === null) throw section.wrong('config_groups', 'one whose weights say how they are quantised');
  if (weights.some((other) => JSON.stringify(other?.raw) !== JSON.stringify(first.raw))) {
    throw refused(section, 'linears in several formats (config_groups that differ) are not read');
  }
  const sparsity = section.section('sparsity_config')?.nullableString('format') ?? 'dense';
  if (sparsity !== 'dense') throw refused(section, `sparse weights (${sparsity}) are not read`);
  if (Object.keys(section.section('transform_config')?.section('config_groups')?.raw ?? {}).length > 0) {
    throw refused(section, 'weights that are rotated while they are used (transform_config) are not read');
  }
  const type = first.string('type', 'int');
  const bits = first.positiveInteger('num_bits');
  const isRead = type === 'int' ? bits === 4 || bits === 8 : type === 'float' && bits === 8;
  if (!isRead)
    throw refused(
      section,
      `weights of type ${type} in ${bits} bits are not read (int in 4 and 8, float in 8 are)`,
    );
  const strategy = first.string('strategy', 'tensor');
  if (!['tensor', 'channel', 'group', 'block'].includes(strategy)) {
    throw first.wrong('strategy', 'tensor, channel, group or block');
  }
  return {
    ...floats('compressed-tensors', 'weight_scale', null),
    kind: type === 'int' ? 'integer' : 'float',
    bits: bits === 4 ? 4 : 8,
    asymmetric: !first.boolean('symmetric', true),
    groupSize: strategy === 'group' ? first.positiveInteger('group_size') : null,
    block: strategy === 'block' ? readBlock(first, 'block_structure') : null,
  };
}

function readBlock(section: ConfigSection, key: string): readonly [number, number] | null {
  const value = section.raw[key] ?? null;
  if (value === null) return null;
  // Once written as "128x128".
  const sizes: unknown[] =
    typeof value === 'string' ? value.split('x').map(Number) : Array.isArray(value) ? value : [];
  const isPair = sizes.length === 2 && sizes.every((size) => Number.isSafeInteger(size) && Number(size) > 0);
  if (!isPair) throw section.wrong(key, 'two positive whole numbers');
  return [Number(sizes[0]), Number(sizes[1])];
}

function requireFourBits(section: ConfigSection, bits: number): void {
  if (bits !== 4) throw refused(section, `codes of ${bits} bits are not read (4 are)`);
}

function readGroupSize(section: ConfigSection, key: string): number | null {
  const size = section.number(key);
  if (size === -1) return null;
  if (!GROUP_SIZES.includes(size)) throw section.wrong(key, `-1 or one of ${GROUP_SIZES.join(', ')}`);
  return size;
}

function refused(section: ConfigSection, what: string): Error {
  return checkpointError(
    section.where,
    `${what}; take the original checkpoint and dtype=int8 or int4, or one in GPTQ or AWQ (gemm) of 4 bits`,
  );
}
