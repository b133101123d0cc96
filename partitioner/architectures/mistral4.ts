/**
 * Mistral 4 (Small 4): multi-head latent attention, whose queries grow with the logarithm of their position; experts chosen by a softmax, of the
 * best groups, stacked, and some that every token visits.
 *
 * Limits  stacks as transformers saves them, gate above up
 * Source  transformers: configuration and modeling of mistral4
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import {
  DEEPSEEK_EXPERTS,
  readDeepseekExperts,
  readGroups,
  readLaterLayers,
  stackedExperts,
} from './experts.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['Mistral4ForCausalLM'],
  modelTypes: ['mistral4'],
  shape(config) {
    const section = config.section('rope_parameters') ?? config.section('rope_scaling');
    // transformers would scale positions without being told to.
    if (section === null) throw config.wrong('rope_parameters', 'an object');
    const { layer, ...attention } = latentTraits(config, {
      interleaved: config.boolean('rope_interleave', true),
      defaultQueryRank: 1024,
      isPartOfHead: true,
      queryGrowth: {
        factor: section.number('llama_4_scaling_beta'),
        period: section.positiveInteger('original_max_position_embeddings'),
      },
    });
    return readDecoderShape(config, {
      ...attention,
      honours: ['n_routed_experts'],
      experts: readDeepseekExperts(config, {
        normalised: config.boolean('norm_topk_prob', true),
        routing: (count) => ({
          scoring: 'softmax',
          groups: readGroups(config, count, 2),
          scale: config.positiveNumber('routed_scaling_factor', 1),
        }),
        defaultShared: 1,
        layers: readLaterLayers(config, 'first_k_dense_replace', 0),
      }),
      layer: {
        ...layer,
        experts: {
          ...DEEPSEEK_EXPERTS,
          choiceBias: null,
          ...stackedExperts(
            'model.layers.{layer}.mlp.experts',
            config.positiveInteger('moe_intermediate_size'),
            false,
          ),
        },
      },
    });
  },
};
