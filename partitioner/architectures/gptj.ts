/**
 * GPT-J: attention and MLP side by side behind one norm, neighbouring pairs of the first dimensions rotated.
 *
 * Source  transformers: configuration_gptj.py, modeling_gptj.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { RopeShape } from '../plan/model-shape.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { GPT2_KEYS, GPT2_NAMES } from './gpt2.js';

const DEFAULT_ROTARY_DIM = 64;

/** What GPT-J and CodeGen share. */
export function gptjTraits(config: CheckpointConfig): FamilyTraits {
  const ropes = (headDim: number): RopeShape[] => {
    // transformers makes another table of a null, which no published model has.
    if (config.raw.rotary_dim === null) throw config.wrong('rotary_dim', 'a number');
    const rotaryDim = config.positiveInteger('rotary_dim', DEFAULT_ROTARY_DIM);
    if (rotaryDim > headDim || rotaryDim % 2 !== 0) {
      throw config.wrong('rotary_dim', `an even number of at most ${headDim}`);
    }
    return [{ rotaryDim, theta: 10_000, scaling: { kind: 'none' }, interleaved: true }];
  };
  return {
    keys: GPT2_KEYS ?? {},
    norm: { kind: 'layer' },
    defaultEpsilon: 1e-5,
    residual: 'parallel',
    biases: { mlp: true, head: true },
    defaultFfnFactor: 4,
    defaultActivation: 'gelu_new',
    gated: false,
    ropes,
    names: GPT2_NAMES,
    layer: {
      attentionNorm: 'transformer.h.{layer}.ln_1',
      query: 'transformer.h.{layer}.attn.q_proj',
      key: 'transformer.h.{layer}.attn.k_proj',
      value: 'transformer.h.{layer}.attn.v_proj',
      attentionOut: 'transformer.h.{layer}.attn.out_proj',
      mlpNorm: null,
      up: 'transformer.h.{layer}.mlp.fc_in',
      down: 'transformer.h.{layer}.mlp.fc_out',
    },
  };
}

export const family: Family = {
  architectures: ['GPTJForCausalLM'],
  modelTypes: ['gptj'],
  shape: (config) => readDecoderShape(config, gptjTraits(config)),
};
