/**
 * StarCoder2: Llama's names, layer norms, biases and a plain MLP; a window, where there is one, on every layer.
 *
 * Source  transformers: configuration_starcoder2.py, modeling_starcoder2.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Starcoder2ForCausalLM'],
  modelTypes: ['starcoder2'],
  shape(config) {
    const bias = config.boolean('use_bias', true);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'norm_epsilon' },
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      biases: { qkv: bias, attentionOut: bias, mlp: bias },
      defaultKvHeads: 2,
      windows: readWindows(config, readWindowSize(config, null), () => true),
      defaultActivation: 'gelu_pytorch_tanh',
      gated: false,
      defaultTiedHead: true,
      layer: {
        up: 'model.layers.{layer}.mlp.c_fc',
        down: 'model.layers.{layer}.mlp.c_proj',
      },
    });
  },
};
