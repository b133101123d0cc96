/**
 * Apertus: Llama's block without a gate, head norms, and xIELU, an activation that every layer has numbers of its own for.
 *
 * Source  transformers: configuration_apertus.py, modeling_apertus.py, activations.py (XIELUActivation)
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { requireValue } from './known-keys.js';

const LAYER = 'model.layers.{layer}';
const THETA = 12_000_000;

export const family: Family = {
  architectures: ['ApertusForCausalLM'],
  modelTypes: ['apertus'],
  shape(config) {
    requireValue(config, 'hidden_act', 'xielu');
    requireValue(config, 'qk_norm', true);
    requireValue(config, 'post_norm', false);
    // transformers would stretch positions without being told to.
    if (!config.has('rope_scaling') && !config.has('rope_parameters')) {
      throw config.wrong('rope_scaling', 'an object');
    }
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      defaultEpsilon: 1e-5,
      headNorm: 'per-head',
      gated: false,
      activation: 'xielu',
      rope: { defaultTheta: THETA },
      layer: {
        attentionNorm: `${LAYER}.attention_layernorm`,
        mlpNorm: `${LAYER}.feedforward_layernorm`,
        activation: `${LAYER}.mlp.act_fn`,
      },
    });
  },
};
