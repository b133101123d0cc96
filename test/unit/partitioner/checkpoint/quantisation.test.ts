/** partitioner/checkpoint/quantisation.ts: what is read of quantization_config, and the sentence for what is not. */
import { describe, expect, it } from 'vitest';
import { CheckpointConfig } from '../../../../partitioner/checkpoint/config-file.js';
import { type Quantisation, readQuantisation } from '../../../../partitioner/checkpoint/quantisation.js';

const read = (quantization_config?: object): Quantisation | null =>
  readQuantisation(new CheckpointConfig({ quantization_config }, null, 'folder'));

const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 128, desc_act: false, sym: true };
const AWQ = { quant_method: 'awq', bits: 4, group_size: 64, version: 'gemm', zero_point: true };
const WEIGHTS = { num_bits: 8, type: 'int', symmetric: true, strategy: 'channel' };
const compressed = (weights: object): object => ({
  quant_method: 'compressed-tensors',
  config_groups: { group_0: { targets: ['Linear'], weights: { ...WEIGHTS, ...weights } } },
});
const SCALED = {
  method: 'compressed-tensors',
  scale: 'weight_scale',
  bits: 8,
  asymmetric: false,
  groupSize: null,
  block: null,
} as const;

describe('readQuantisation', () => {
  it('none: the weights are floats', () => {
    expect(read()).toBeNull();
  });

  it.each<[object, Quantisation]>([
    [GPTQ, { method: 'gptq', groupSize: 128, lessOne: true }],
    [
      { ...GPTQ, checkpoint_format: 'gptq' },
      { method: 'gptq', groupSize: 128, lessOne: true },
    ],
    [
      { ...GPTQ, checkpoint_format: 'gptq_v2' },
      { method: 'gptq', groupSize: 128, lessOne: false },
    ],
    [
      { ...GPTQ, group_size: -1 },
      { method: 'gptq', groupSize: null, lessOne: true },
    ],
    [AWQ, { method: 'awq', groupSize: 64, lessOne: false }],
    [
      { quant_method: 'awq', w_bit: 4, q_group_size: 32, version: 'GEMM' },
      { method: 'awq', groupSize: 32, lessOne: false },
    ],
    [{ quant_method: 'mxfp4', modules_to_not_convert: [] }, { method: 'mxfp4' }],
    [compressed({}), { ...SCALED, kind: 'integer' }],
    [
      compressed({ num_bits: 4, strategy: 'group', group_size: 64, symmetric: false }),
      { ...SCALED, kind: 'integer', bits: 4, asymmetric: true, groupSize: 64 },
    ],
    [
      compressed({ type: 'float', strategy: 'block', block_structure: [128, 64] }),
      { ...SCALED, kind: 'float', block: [128, 64] },
    ],
    [
      { quant_method: 'fp8', weight_block_size: [128, 128], activation_scheme: 'dynamic' },
      { ...SCALED, method: 'fp8', scale: 'weight_scale_inv', kind: 'float', block: [128, 128] },
    ],
    [{ quant_method: 'fbgemm_fp8' }, { ...SCALED, method: 'fbgemm_fp8', kind: 'float' }],
  ])('%j', (section, expected) => {
    expect(read(section)).toEqual(expected);
  });

  it.each<[object, string]>([
    [{ quant_method: 'bitsandbytes', load_in_4bit: true }, 'bitsandbytes keeps no codes'],
    [{ load_in_8bit: true }, 'quant_method absent is not read'],
    [{ quant_method: 'modelopt' }, 'quant_method modelopt is not read'],
    [{ quant_method: 'fp8', weight_block_size: [128] }, 'weight_block_size is [128], expected two'],
    [{ quant_method: 'compressed-tensors' }, 'config_groups is null, expected one whose weights'],
    [compressed({ num_bits: 2 }), 'weights of type int in 2 bits are not read'],
    [compressed({ num_bits: 4, type: 'float' }), 'weights of type float in 4 bits'],
    [compressed({ strategy: 'token' }), 'strategy is "token", expected tensor, channel, group or block'],
    [{ ...compressed({}), sparsity_config: { format: 'sparse-24-bitmask' } }, 'sparse weights'],
    [
      { ...compressed({}), transform_config: { config_groups: { R1: { type: 'hadamard' } } } },
      'rotated while they are used',
    ],
    [
      {
        ...compressed({}),
        config_groups: { a: { weights: WEIGHTS }, b: { weights: { ...WEIGHTS, num_bits: 4 } } },
      },
      'linears in several formats',
    ],
    [{ ...GPTQ, bits: 8 }, 'codes of 8 bits are not read (4 are)'],
    [{ ...GPTQ, bits: 3 }, 'codes of 3 bits'],
    [{ ...GPTQ, is_marlin_format: true }, 'layout "marlin" is not read'],
    [{ ...GPTQ, checkpoint_format: 'marlin' }, 'layout "marlin" is not read'],
    [{ ...GPTQ, dynamic: { '+:.*down.*': { bits: 8 } } }, '"dynamic"'],
    [{ ...GPTQ, group_size: 48 }, 'group_size is 48, expected -1 or one of 16, 32'],
    [{ ...AWQ, version: 'gemv' }, 'layout "gemv" is not read (gemm is)'],
    [{ ...AWQ, zero_point: false }, 'without zero points'],
  ])('refuses %j', (section, message) => {
    expect(() => read(section)).toThrow(expect.objectContaining({ code: 'CHECKPOINT_INVALID' }));
    expect(() => read(section)).toThrow(message);
  });
});
