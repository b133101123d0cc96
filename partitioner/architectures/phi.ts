/**
 * Phi-1, Phi-1.5, Phi-2: attention and MLP side by side behind one norm; a bias everywhere, in the head too.
 *
 * Source  transformers: configuration_phi.py, modeling_phi.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['PhiForCausalLM'],
  modelTypes: ['phi'],
  shape(config) {
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      residual: 'parallel',
      biases: { qkv: true, attentionOut: true, mlp: true, head: true },
      defaultActivation: 'gelu_new',
      gated: false,
      rope: { defaultPartial: 0.5 },
      names: { finalNorm: 'model.final_layernorm' },
      layer: {
        attentionOut: 'model.layers.{layer}.self_attn.dense',
        mlpNorm: null,
        up: 'model.layers.{layer}.mlp.fc1',
        down: 'model.layers.{layer}.mlp.fc2',
      },
    });
  },
};
