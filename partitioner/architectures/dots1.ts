/**
 * dots.llm1: Qwen3's block with experts chosen by sigmoids and a bias, and some that every token visits.
 *
 * Source  transformers: configuration and modeling of dots1
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { DEEPSEEK_EXPERTS, readDeepseekExperts, readLaterLayers, readSigmoidRouting } from './experts.js';

export const family: Family = {
  architectures: ['Dots1ForCausalLM'],
  modelTypes: ['dots1'],
  shape(config) {
    const firstWindowed = config.positiveInteger('max_window_layers', 62);
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      honours: ['n_routed_experts'],
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: 'per-head',
      windows: readWindows(config, readWindowSize(config), (layer) => layer >= firstWindowed),
      experts: readDeepseekExperts(config, {
        normalised: config.boolean('norm_topk_prob', false),
        routing: (count) => readSigmoidRouting(config, count),
        layers: readLaterLayers(config, 'first_k_dense_replace', 0),
      }),
      layer: { experts: DEEPSEEK_EXPERTS },
    });
  },
};
