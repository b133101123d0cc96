/**
 * Granite 3 mixtures (1B-A400M, 3B-A800M): Granite's block with experts, stacked, gate above up.
 *
 * Source  transformers: configuration and modeling of granitemoe, and its conversion of published names
 */
import type { Place } from '../plan/model-shape.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readLaterLayers } from './experts.js';
import { graniteTraits } from './granite.js';

const LAYER = 'model.layers.{layer}.block_sparse_moe';

export const family: Family = {
  architectures: ['GraniteMoeForCausalLM'],
  modelTypes: ['granitemoe'],
  shape(config) {
    const ffnSize = config.positiveInteger('intermediate_size');
    const attentionBias = config.boolean('attention_bias', false);
    const traits = graniteTraits(config);
    return readDecoderShape(config, {
      ...traits,
      honours: [...(traits.honours ?? []), 'num_local_experts'],
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      experts: readExperts(
        config,
        { count: 'num_local_experts', ffnSize: 'intermediate_size' },
        { normalised: true, sharedFfnSize: null, layers: readLaterLayers(config, '', 0) },
      ),
      layer: {
        experts: {
          router: `${LAYER}.router.layer`,
          choiceBias: null,
          gate: stacked('input_linear', ffnSize, 0),
          up: stacked('input_linear', ffnSize, 1),
          down: { ...stacked('output_linear', ffnSize, 0), rows: null },
          shared: null,
        },
      },
    });
  },
};

/** @param half of the rows of every matrix */
const stacked = (tensor: string, ffnSize: number, half: 0 | 1): Place => ({
  stem: `${LAYER}.${tensor}`,
  stacked: true,
  rows: { unitRows: ffnSize, groupUnits: 2, firstUnit: half, units: 1 },
  transposed: false,
});
