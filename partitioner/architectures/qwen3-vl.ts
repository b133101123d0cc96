/**
 * Qwen3-VL (text part, dense): Qwen3 below a model that also reads images; its rotation by time, height and width is one in a text.
 *
 * Source  transformers: Qwen3VLConfig, modeling_qwen3_vl.py
 */
import type { Family } from './decoder-shape.js';
import { family as qwen3 } from './qwen3.js';
import { textConfig, textPart } from './text-part.js';

const DEFAULTS = { rope_theta: 500_000, head_dim: 128 };

export const family: Family = {
  architectures: ['Qwen3VLForConditionalGeneration'],
  modelTypes: ['qwen3_vl'],
  shape: (config) => textPart(qwen3.shape(textConfig(config, { defaults: DEFAULTS }))),
};
