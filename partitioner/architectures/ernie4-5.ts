/**
 * ERNIE 4.5 (dense): Llama's block whose rotation takes neighbouring pairs, one bias or none in all linears.
 *
 * Source  transformers: configuration_ernie4_5.py, modeling_ernie4_5.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  // The second is the authors' own spelling.
  architectures: ['Ernie4_5ForCausalLM', 'Ernie4_5_ForCausalLM'],
  modelTypes: ['ernie4_5'],
  shape(config) {
    const bias = config.boolean('use_bias', false);
    return readDecoderShape(config, {
      biases: { qkv: bias, attentionOut: bias, mlp: bias },
      defaultEpsilon: 1e-5,
      defaultKvHeads: 2,
      defaultHeadDim: 128,
      rope: { defaultTheta: 500_000, interleaved: true },
      defaultTiedHead: true,
    });
  },
};
