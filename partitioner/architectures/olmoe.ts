/**
 * OLMoE: Llama's block with norms of all queries and all keys at once, and experts.
 *
 * Source  transformers: configuration and modeling of olmoe
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readLaterLayers } from './experts.js';
import { QWEN_EXPERTS } from './qwen2-moe.js';

export const family: Family = {
  architectures: ['OlmoeForCausalLM'],
  modelTypes: ['olmoe'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      honours: ['num_experts'],
      defaultEpsilon: 1e-5,
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: 'whole',
      experts: readExperts(
        config,
        { count: 'num_experts', ffnSize: 'intermediate_size' },
        {
          normalised: config.boolean('norm_topk_prob', false),
          sharedFfnSize: null,
          layers: readLaterLayers(config, '', 0),
        },
      ),
      layer: { experts: QWEN_EXPERTS },
    });
  },
};
