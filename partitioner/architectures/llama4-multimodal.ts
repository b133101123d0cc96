/**
 * Llama 4 (Scout, Maverick; text part): Llama 4 below a model that also reads images.
 *
 * Source  transformers: Llama4Config, modeling_llama4.py
 */
import type { Family } from './decoder-shape.js';
import { family as llama4 } from './llama4.js';
import { textConfig, textPart } from './text-part.js';

export const family: Family = {
  architectures: ['Llama4ForConditionalGeneration'],
  modelTypes: ['llama4'],
  shape: (config) => textPart(llama4.shape(textConfig(config))),
};
