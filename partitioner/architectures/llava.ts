/**
 * LLaVA and its kind (1.5, NeXT, OneVision; text part): a Llama, Mistral, Qwen2 or Gemma below a model that also reads images.
 *
 * Source  transformers: LlavaConfig, LlavaNextConfig, LlavaOnevisionConfig and their models
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ModelShape } from '../plan/model-shape.js';
import type { Family } from './decoder-shape.js';
import { family as gemma } from './gemma.js';
import { requireValue } from './known-keys.js';
import { family as llama } from './llama.js';
import { family as mistral } from './mistral.js';
import { family as qwen2 } from './qwen2.js';
import { textConfig, textPart } from './text-part.js';

const DECODERS: readonly Family[] = [llama, mistral, qwen2, gemma];

function shape(config: CheckpointConfig): ModelShape {
  const text = textConfig(config);
  requireValue(text, 'model_type', ...DECODERS.flatMap(({ modelTypes }) => modelTypes));
  const decoder = DECODERS.find(({ modelTypes }) => modelTypes.includes(text.string('model_type'))) ?? llama;
  return textPart(decoder.shape(text));
}

export const family: Family = {
  architectures: [
    'LlavaForConditionalGeneration',
    'LlavaNextForConditionalGeneration',
    'LlavaOnevisionForConditionalGeneration',
  ],
  modelTypes: ['llava', 'llava_next', 'llava_onevision'],
  shape,
};
