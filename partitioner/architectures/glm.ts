/**
 * GLM-4 (glm-4-9b and Z1 of the first kind): Llama's block; gate above up in one tensor, neighbouring pairs of half a head rotated.
 *
 * Source  transformers: configuration_glm.py, modeling_glm.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { stackedGateUp } from './fused-qkv.js';

/** What GLM and GLM-4-0414 share. */
export function glmTraits(config: CheckpointConfig): FamilyTraits {
  return {
    // The output projection has none, whatever config.json says.
    biases: { qkv: config.boolean('attention_bias', true) },
    defaultEpsilon: 1.5625e-7,
    defaultKvHeads: 2,
    defaultHeadDim: 128,
    rope: { interleaved: true, defaultPartial: 0.5 },
    gateUp: (ffnSize) => stackedGateUp('model.layers.{layer}.mlp.gate_up_proj', ffnSize),
  };
}

export const family: Family = {
  architectures: ['GlmForCausalLM'],
  modelTypes: ['glm'],
  shape: (config) => readDecoderShape(config, glmTraits(config)),
};
