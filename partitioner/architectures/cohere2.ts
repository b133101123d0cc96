/**
 * Cohere 2 (Command R7B, Command A, Aya Expanse's successors): Cohere's block; a window on all but every fourth layer, and no rotation there.
 *
 * Source  transformers: configuration_cohere2.py, modeling_cohere2.py
 */
import { cohereTraits } from './cohere.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Cohere2ForCausalLM'],
  modelTypes: ['cohere2'],
  shape(config) {
    const window = readWindowSize(config);
    if (window === null) throw config.wrong('sliding_window', 'a size');
    const pattern = config.positiveInteger('sliding_window_pattern', 4);
    const windows = readWindows(config, window, (layer) => (layer + 1) % pattern !== 0);
    return readDecoderShape(config, {
      ...cohereTraits(config),
      honours: ['logit_scale'],
      rope: { interleaved: true },
      windows,
      layerRopes: windows.map((own) => (own === null ? null : 0)),
    });
  },
};
