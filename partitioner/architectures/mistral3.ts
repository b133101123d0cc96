/**
 * Mistral Small 3.1 and up, Ministral 3, Mistral Small 4 (text part): Mistral, Ministral 3 or Mistral 4 below a model that also reads images.
 *
 * Source  transformers: Mistral3Config, modeling_mistral3.py
 */
import type { Family } from './decoder-shape.js';
import { requireValue } from './known-keys.js';
import { family as ministral3 } from './ministral3.js';
import { family as mistral } from './mistral.js';
import { family as mistral4 } from './mistral4.js';
import { textConfig, textPart } from './text-part.js';

const DECODERS: readonly Family[] = [mistral, ministral3, mistral4];

export const family: Family = {
  architectures: ['Mistral3ForConditionalGeneration'],
  modelTypes: ['mistral3'],
  shape(config) {
    const text = textConfig(config);
    requireValue(text, 'model_type', ...DECODERS.flatMap(({ modelTypes }) => modelTypes));
    const decoder = DECODERS.find(({ modelTypes }) =>
      modelTypes.includes(text.string('model_type', 'mistral')),
    );
    return textPart((decoder ?? mistral).shape(text));
  },
};
