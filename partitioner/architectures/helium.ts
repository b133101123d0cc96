/**
 * Helium: Llama's block whose rotation takes neighbouring pairs.
 *
 * Source  transformers: configuration_helium.py, modeling_helium.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['HeliumForCausalLM'],
  modelTypes: ['helium'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      // The output projection has none, whatever config.json says.
      biases: { qkv: attentionBias, mlp: config.boolean('mlp_bias', false) },
      defaultEpsilon: 1e-8,
      rope: { defaultTheta: 100_000, interleaved: true },
    });
  },
};
