/**
 * EXAONE 4: Llama's block with norms after attention and MLP, norms of heads; where some layers have a window, the others rotate nothing.
 *
 * Source  transformers: configuration_exaone4.py, modeling_exaone4.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Exaone4ForCausalLM'],
  modelTypes: ['exaone4'],
  shape(config) {
    const window = readWindowSize(config);
    // "LLLG" stands for 4, but transformers wants layer_types beside it.
    const pattern =
      window === null || config.has('layer_types') ? 1 : config.positiveInteger('sliding_window_pattern', 4);
    const windows = readWindows(config, window, (layer) => (layer + 1) % pattern !== 0);
    return readDecoderShape(config, {
      defaultEpsilon: 1e-5,
      headNorm: 'per-head',
      windows,
      layerRopes: windows.map((own) => (window === null || own !== null ? 0 : null)),
      layer: {
        attentionNorm: null,
        attentionPostNorm: 'model.layers.{layer}.post_attention_layernorm',
        mlpNorm: null,
        mlpPostNorm: 'model.layers.{layer}.post_feedforward_layernorm',
      },
    });
  },
};
