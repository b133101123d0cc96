/**
 * Mistral Small 3.1 and up, Ministral 3 (text part): Mistral or Ministral 3 below a model that also reads images.
 *
 * Source  transformers: Mistral3Config, modeling_mistral3.py
 */
import type { Family } from './decoder-shape.js';
import { requireValue } from './known-keys.js';
import { family as ministral3 } from './ministral3.js';
import { family as mistral } from './mistral.js';
import { textConfig, textPart } from './text-part.js';

export const family: Family = {
  architectures: ['Mistral3ForConditionalGeneration'],
  modelTypes: ['mistral3'],
  shape(config) {
    const text = textConfig(config);
    requireValue(text, 'model_type', 'mistral', 'ministral3');
    return textPart((text.raw.model_type === 'ministral3' ? ministral3 : mistral).shape(text));
  },
};
