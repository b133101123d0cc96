/**
 * Kimi K2.5 and K2.6 (text part): DeepSeek V3 below a model that also reads images.
 *
 * Source  transformers: Kimi_K25Config, modeling_kimi_k25.py; the first name is transformers', the second the publisher's
 */
import type { Family } from './decoder-shape.js';
import { family as deepseekV3 } from './deepseek-v3.js';
import { requireValue } from './known-keys.js';
import { textConfig, textPart } from './text-part.js';

export const family: Family = {
  architectures: ['Kimi_K25ForConditionalGeneration', 'KimiK25ForConditionalGeneration'],
  modelTypes: ['kimi_k25'],
  shape(config) {
    const text = textConfig(config, { defaultTiedHead: true });
    requireValue(text, 'model_type', ...deepseekV3.modelTypes);
    return textPart(deepseekV3.shape(text));
  },
};
