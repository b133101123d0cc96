/** partitioner/checkpoint/quantisation.ts: what is read of quantization_config, and the sentence for what is not. */
import { describe, expect, it } from 'vitest';
import { CheckpointConfig } from '../../../../partitioner/checkpoint/config-file.js';
import { type Quantisation, readQuantisation } from '../../../../partitioner/checkpoint/quantisation.js';

const read = (quantization_config?: object): Quantisation | null =>
  readQuantisation(new CheckpointConfig({ quantization_config }, null, 'folder'));

const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 128, desc_act: false, sym: true };
const AWQ = { quant_method: 'awq', bits: 4, group_size: 64, version: 'gemm', zero_point: true };

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
  ])('%j', (section, expected) => {
    expect(read(section)).toEqual(expected);
  });

  it.each<[object, string]>([
    [{ quant_method: 'bitsandbytes', load_in_4bit: true }, 'bitsandbytes keeps no codes'],
    [{ load_in_8bit: true }, 'quant_method absent is not read'],
    [{ quant_method: 'fp8' }, 'quant_method fp8 is not read'],
    [{ quant_method: 'compressed-tensors' }, 'quant_method compressed-tensors is not read'],
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
