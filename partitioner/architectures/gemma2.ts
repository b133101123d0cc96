/**
 * Gemma 2: Gemma with a norm before and after attention and MLP, soft-capped scores and logits, and a window on every other layer.
 *
 * Source  transformers: configuration_gemma2.py, modeling_gemma2.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import {
  type Family,
  type FamilyTraits,
  readDecoderShape,
  readWindowSize,
  readWindows,
} from './decoder-shape.js';
import { gemmaTraits } from './gemma.js';

/** What Gemma 2 and 3 share. */
export function gemma2Traits(config: CheckpointConfig): FamilyTraits {
  const scalar = config.positiveNumber('query_pre_attn_scalar', 256);
  return {
    ...gemmaTraits(config),
    keys: { activation: 'hidden_activation' },
    honours: [
      'query_pre_attn_scalar',
      'attn_logit_softcapping',
      'final_logit_softcapping',
      'rope_local_base_freq',
    ],
    defaultKvHeads: 4,
    queryScale: () => scalar ** -0.5,
    attentionSoftCap: softCap(config, 'attn_logit_softcapping'),
    logitSoftCap: softCap(config, 'final_logit_softcapping'),
    layer: {
      attentionPostNorm: 'model.layers.{layer}.post_attention_layernorm',
      mlpNorm: 'model.layers.{layer}.pre_feedforward_layernorm',
      mlpPostNorm: 'model.layers.{layer}.post_feedforward_layernorm',
    },
  };
}

const softCap = (config: CheckpointConfig, key: string): number | null =>
  config.has(key) ? config.positiveNumber(key) : null;

/** What transformers caps at where config.json does not say; null there means no cap. */
function defaultCap(config: CheckpointConfig, key: string, fallback: number): number | null {
  return Object.hasOwn(config.raw, key) ? softCap(config, key) : fallback;
}

export const family: Family = {
  architectures: ['Gemma2ForCausalLM'],
  modelTypes: ['gemma2'],
  shape(config) {
    return readDecoderShape(config, {
      ...gemma2Traits(config),
      attentionSoftCap: defaultCap(config, 'attn_logit_softcapping', 50),
      logitSoftCap: defaultCap(config, 'final_logit_softcapping', 30),
      windows: readWindows(config, readWindowSize(config), (layer) => layer % 2 === 0),
    });
  },
};
