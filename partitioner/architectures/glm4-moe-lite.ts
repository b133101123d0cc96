/**
 * GLM-4.7 Flash: DeepSeek V3's attention, GLM-4.5's experts.
 *
 * Source  transformers: configuration and modeling of glm4_moe_lite
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import {
  behindTheLast,
  DEEPSEEK_EXPERTS,
  readDeepseekExperts,
  readLaterLayers,
  readSigmoidRouting,
} from './experts.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['Glm4MoeLiteForCausalLM'],
  modelTypes: ['glm4_moe_lite'],
  shape(config) {
    const { layer, ...attention } = latentTraits(config, {
      interleaved: config.boolean('rope_interleave', true),
      defaultQueryRank: 768,
    });
    return readDecoderShape(config, {
      ...attention,
      honours: ['n_routed_experts'],
      defaultEpsilon: 1e-5,
      experts: readDeepseekExperts(config, {
        normalised: config.boolean('norm_topk_prob', true),
        routing: (count) => readSigmoidRouting(config, count, { groups: 1, chosen: 1, scale: 1.8 }),
        defaultShared: 1,
        layers: readSparseTypes(config) ?? readLaterLayers(config, 'first_k_dense_replace', 1),
      }),
      names: { ignored: [behindTheLast(config)] },
      layer: { ...layer, experts: DEEPSEEK_EXPERTS },
    });
  },
};

/** `mlp_layer_types`, a word a layer; null: config.json has none. */
function readSparseTypes(config: CheckpointConfig): boolean[] | null {
  if (!config.has('mlp_layer_types')) return null;
  const types = config.strings('mlp_layer_types');
  const numLayers = config.positiveInteger('num_hidden_layers');
  if (types.length !== numLayers || types.some((type) => type !== 'dense' && type !== 'sparse')) {
    throw config.wrong('mlp_layer_types', `"dense" or "sparse" for each of ${numLayers} layers`);
  }
  return types.map((type) => type === 'sparse');
}
