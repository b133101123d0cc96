/**
 * Qwen2-VL and Qwen2.5-VL (text part): Qwen2 below a model that also reads images; its rotation by time, height and width is one in a text.
 *
 * Source  transformers: Qwen2VLConfig, Qwen2_5_VLConfig and their models
 */
import type { Family } from './decoder-shape.js';
import { family as qwen2 } from './qwen2.js';
import { textConfig, textPart } from './text-part.js';

const DEFAULTS = { rope_theta: 1_000_000, rms_norm_eps: 1e-5 };

export const family: Family = {
  architectures: ['Qwen2_5_VLForConditionalGeneration', 'Qwen2VLForConditionalGeneration'],
  modelTypes: ['qwen2_5_vl', 'qwen2_vl'],
  shape: (config) => textPart(qwen2.shape(textConfig(config, { defaults: DEFAULTS }))),
};
