/**
 * GLM-4-0414 and GLM-Z1: GLM's block with a norm before and after attention and MLP.
 *
 * Source  transformers: configuration_glm4.py, modeling_glm4.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { glmTraits } from './glm.js';

export const family: Family = {
  architectures: ['Glm4ForCausalLM'],
  modelTypes: ['glm4'],
  shape(config) {
    return readDecoderShape(config, {
      ...glmTraits(config),
      layer: {
        attentionPostNorm: 'model.layers.{layer}.post_self_attn_layernorm',
        mlpPostNorm: 'model.layers.{layer}.post_mlp_layernorm',
      },
    });
  },
};
