/**
 * The text part of a model that also reads images, as a config.json and names of its own.
 *
 * In      config.json whose `text_config` has the decoder's keys; the family of that decoder
 * Out     its ModelShape: tensors under their prefixes, those of images and sound ignored
 * Errors  ServingError CHECKPOINT_INVALID: as the decoder's family
 * Source  transformers: Gemma3Config, Mistral3Config, Qwen2_5_VLConfig, Qwen3VLConfig, LlavaConfig and their models
 */
import { CheckpointConfig } from '../checkpoint/config-file.js';
import { isJsonObject, type JsonObject } from '../checkpoint/json-file.js';
import type { ModelShape } from '../plan/model-shape.js';

/** As published, and as transformers 5 saves them. */
const RENAMES: ModelShape['names']['renames'] = [
  [/^(?:language_model\.model|model\.language_model)\./, 'model.'],
  [/^language_model\.lm_head\./, 'lm_head.'],
];
const OTHER_SENSES =
  /^(?:model\.)?(?:vision_tower|vision_model|visual|multi_modal_projector|mm_projector|image_newline|connector)(?:\.|$)/;

export interface TextPartOptions {
  /** What transformers takes where `text_config` does not say. */
  defaults?: JsonObject;
  /** Where neither config.json nor `text_config` says whether the head is the embedding. */
  defaultTiedHead?: boolean;
}

/** @returns config.json with the keys of `text_config` at its top; as it is, where it has none (Qwen2-VL's old layout) */
export function textConfig(config: CheckpointConfig, options: TextPartOptions = {}): CheckpointConfig {
  const { defaultTiedHead = false, defaults = {} } = options;
  const text = config.section('text_config')?.raw ?? config.raw;
  const tied = [config.raw.tie_word_embeddings, text.tie_word_embeddings].filter((one) => one !== null);
  const raw: Record<string, unknown> = {
    ...defaults,
    ...text,
    architectures: config.raw.architectures,
    tie_word_embeddings: tied.find((one) => one !== undefined) ?? defaultTiedHead,
  };
  if (config.has('quantization_config')) raw.quantization_config = config.raw.quantization_config;
  for (const key of ['rope_scaling', 'rope_parameters']) {
    const rope = raw[key];
    // Sections of a head are turned by time, height and width, which are one and the same in a text.
    if (isJsonObject(rope) && (rope.rope_type ?? rope.type) === 'mrope') {
      raw[key] = { ...rope, rope_type: 'default' };
    }
  }
  return new CheckpointConfig(raw, config.generation, config.folder);
}

/** The decoder's shape, with the names that its tensors have in the whole model. */
export function textPart(shape: ModelShape): ModelShape {
  const { names } = shape;
  return { ...shape, names: { ...names, renames: RENAMES, ignored: [...names.ignored, OTHER_SENSES] } };
}
