/**
 * How config.json says that the weights were quantised: what can be read, and one sentence for what cannot.
 *
 * In      config.json's `quantization_config`
 * Out     Quantisation; null: the weights are floats
 * Errors  ServingError CHECKPOINT_INVALID naming what was found and what to do instead
 * Source  transformers utils/quantization_config.py; AutoGPTQ and GPTQModel (checkpoint_format), AutoAWQ (version)
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
    };

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
    case 'bitsandbytes':
      throw refused(section, 'bitsandbytes keeps no codes that can be split');
    default: {
      const method = section.nullableString('quant_method') ?? 'absent';
      throw refused(section, `quant_method ${method} is not read (gptq, awq and mxfp4 are)`);
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
