/**
 * CWM (Code World Model): Llama's block; a window on all but every fourth layer.
 *
 * Source  transformers: configuration and modeling of cwm
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

const DEFAULT_WINDOW = 8192;
const PATTERN = 4;

export const family: Family = {
  architectures: ['CwmForCausalLM'],
  modelTypes: ['cwm'],
  shape(config) {
    // transformers would scale positions without being told to.
    if (!config.has('rope_scaling') && !config.has('rope_parameters')) {
      throw config.wrong('rope_scaling', 'an object');
    }
    return readDecoderShape(config, {
      biases: { mlp: config.boolean('mlp_bias', false) },
      defaultEpsilon: 1e-5,
      defaultKvHeads: 8,
      rope: { defaultTheta: 1_000_000 },
      windows: readWindows(config, readWindowSize(config, DEFAULT_WINDOW), (layer) => layer % PATTERN !== 0),
    });
  },
};
