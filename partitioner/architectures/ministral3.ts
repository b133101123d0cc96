/**
 * Ministral 3: Mistral's block; queries grow with the logarithm of their position, in steps of the original context.
 *
 * Source  transformers: configuration and modeling of ministral3
 */
import { type Family, readDecoderShape, readWindows } from './decoder-shape.js';
import { readRope } from './read-rope.js';

export const family: Family = {
  architectures: ['Ministral3ForCausalLM'],
  modelTypes: ['ministral3'],
  shape(config) {
    const window = config.nullablePositiveInteger('sliding_window');
    const section = config.section('rope_parameters') ?? config.section('rope_scaling');
    // transformers would scale positions without being told to.
    if (section === null) throw config.wrong('rope_parameters', 'an object');
    const growth = {
      factor: section.number('llama_4_scaling_beta'),
      period: section.positiveInteger('original_max_position_embeddings'),
    };
    return readDecoderShape(config, {
      defaultEpsilon: 1e-5,
      defaultKvHeads: 8,
      defaultHeadDim: 128,
      windows: readWindows(config, window, () => true),
      ropes: (headDim) => {
        const rope = readRope(config, headDim, { defaultTheta: 1_000_000 });
        return [rope, { ...rope, growth }];
      },
      layerRopes: readWindows(config, null, () => false).map(() => 0),
      queryRope: 1,
    });
  },
};
