/**
 * Mistral 4 (Small 4): multi-head latent attention, whose queries grow with the logarithm of their position; experts chosen by a softmax, of the
 * best groups, stacked, and some that every token visits.
 *
 * Limits  stacks as transformers saves them, gate above up
 * Source  transformers: configuration and modeling of mistral4
 */
import type { Place } from '../plan/model-shape.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { DEEPSEEK_EXPERTS, readDeepseekExperts, readGroups, readLaterLayers } from './experts.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['Mistral4ForCausalLM'],
  modelTypes: ['mistral4'],
  shape(config) {
    const section = config.section('rope_parameters') ?? config.section('rope_scaling');
    // transformers would scale positions without being told to.
    if (section === null) throw config.wrong('rope_parameters', 'an object');
    const { latent, layer, ...attention } = latentTraits(config, {
      interleaved: config.boolean('rope_interleave', true),
      defaultQueryRank: 1024,
      isPartOfHead: true,
    });
    const queryGrowth = {
      factor: section.number('llama_4_scaling_beta'),
      period: section.positiveInteger('original_max_position_embeddings'),
    };
    const ffnSize = config.positiveInteger('moe_intermediate_size');
    return readDecoderShape(config, {
      ...attention,
      ...(latent ? { latent: { ...latent, queryGrowth } } : {}),
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
          gate: stacked('gate_up_proj', ffnSize, 0),
          up: stacked('gate_up_proj', ffnSize, 1),
          down: { ...stacked('down_proj', ffnSize, 0), rows: null },
        },
      },
    });
  },
};

/** @param half of the rows of every matrix */
const stacked = (tensor: string, ffnSize: number, half: 0 | 1): Place => ({
  stem: `model.layers.{layer}.mlp.experts.${tensor}`,
  endings: { weight: '', bias: '' },
  stacked: true,
  rows: { unitRows: ffnSize, groupUnits: 2, firstUnit: half, units: 1 },
  transposed: false,
});
