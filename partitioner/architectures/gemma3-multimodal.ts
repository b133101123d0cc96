/**
 * Gemma 3 4B and up (text part): Gemma 3 below a model that also reads images.
 *
 * Source  transformers: Gemma3Config, Gemma3TextConfig (whose values stand where `text_config` has none)
 */
import type { Family } from './decoder-shape.js';
import { family as gemma3 } from './gemma3.js';
import { textConfig, textPart } from './text-part.js';

const DEFAULTS = {
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131_072,
};

export const family: Family = {
  architectures: ['Gemma3ForConditionalGeneration'],
  modelTypes: ['gemma3'],
  shape: (config) =>
    textPart(gemma3.shape(textConfig(config, { defaults: DEFAULTS, defaultTiedHead: true }))),
};
