/**
 * GPT-OSS: attention with sinks, a window on every other layer, experts with biases and a clamped gate.
 *
 * Layout  an expert is a matrix of a stack. transformers keeps the stacks [experts, in, out]; published checkpoints keep them
 *         packed in MXFP4, [experts, out, in] (checkpoint/mxfp4-source.ts). Gate and up alternate in either, and in their bias.
 *         GGUF has gate and up as stacks of their own, [experts, out, in].
 * Source  transformers: configuration_gpt_oss.py, modeling_gpt_oss.py
 */
import { readQuantisation } from '../checkpoint/quantisation.js';
import type { Place } from '../plan/model-shape.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { readExperts } from './experts.js';
import { requireValue } from './known-keys.js';

const LAYER = 'model.layers.{layer}';
const DEFAULT_WINDOW = 128;
const DEFAULT_LIMIT = 7;

export const family: Family = {
  architectures: ['GptOssForCausalLM'],
  modelTypes: ['gpt_oss'],
  shape(config) {
    requireValue(config, 'hidden_act', 'silu');
    // The gain of the sigmoid; 1.702 is what quick GELU has.
    requireValue(config, 'swiglu_alpha', 1.702);
    // transformers would scale positions without being told to.
    if (!config.has('rope_scaling') && !config.has('rope_parameters')) {
      throw config.wrong('rope_scaling', 'an object');
    }
    const isPacked = readQuantisation(config)?.method === 'mxfp4';
    const windows = readWindows(config, readWindowSize(config, DEFAULT_WINDOW), (layer) => layer % 2 === 0);
    const attentionBias = config.boolean('attention_bias', true);
    return readDecoderShape(config, {
      honours: ['num_local_experts'],
      packsExperts: true,
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      defaultEpsilon: 1e-5,
      defaultKvHeads: 8,
      defaultHeadDim: 64,
      windows,
      rope: { defaultTheta: 150_000 },
      activation: 'quick-gelu',
      clampedGate: { limit: config.positiveNumber('swiglu_limit', DEFAULT_LIMIT), raisedAddend: 1 },
      experts: readExperts(
        config,
        { count: 'num_local_experts', ffnSize: 'intermediate_size' },
        { normalised: true, biases: true, sharedFfnSize: null, layers: windows.map(() => true) },
      ),
      layer: {
        sinks: {
          stem: `${LAYER}.self_attn.sinks`,
          endings: { weight: '', bias: '' },
          rows: null,
          transposed: false,
        },
        experts: {
          router: `${LAYER}.mlp.router`,
          ...(config.gguf === null ? alternating(isPacked) : APART),
          choiceBias: null,
          shared: null,
        },
      },
    });
  },
};

/** @param isPacked in MXFP4 */
const alternating = (isPacked: boolean): Record<'gate' | 'up' | 'down', Place> => ({
  gate: stacked('gate_up_proj', 0, isPacked),
  up: stacked('gate_up_proj', 1, isPacked),
  down: stacked('down_proj', null, isPacked),
});

const apart = (tensor: string): Place => ({
  stem: `${LAYER}.mlp.experts.${tensor}`,
  endings: { weight: '.weight', bias: '.bias' },
  stacked: true,
  rows: null,
  transposed: false,
});
const APART = { gate: apart('gate_proj'), up: apart('up_proj'), down: apart('down_proj') };

/** @param unit 0 and 1: gate and up, which alternate; null: all rows */
function stacked(tensor: string, unit: 0 | 1 | null, isPacked: boolean): Place {
  return {
    stem: `${LAYER}.mlp.experts.${tensor}`,
    endings: { weight: '', bias: '_bias' },
    stacked: true,
    rows: unit === null ? null : { unitRows: 1, groupUnits: 2, firstUnit: unit, units: 1 },
    transposed: !isPacked,
  };
}
