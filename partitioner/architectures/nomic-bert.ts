/**
 * NomicBERT (nomic-embed-text v1 and v1.5), as transformers saves it and as it is published.
 *
 * Limits  the published spelling: SwiGLU without biases, rotation of whole halves; experts (v2) are refused
 * Source  transformers: configuration_nomic_bert.py, modeling_nomic_bert.py, conversion_mapping.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ModelShape } from '../plan/model-shape.js';
import { classifiersOf } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { stackedQkv } from './fused-qkv.js';
import { readGatedEncoder } from './gated-encoder.js';
import { requireValue } from './known-keys.js';

const THETA = 1000;

export const family: Family = {
  architectures: [
    'NomicBertModel',
    'NomicBertForMaskedLM',
    'NomicBertForPreTraining',
    ...classifiersOf('NomicBert'),
  ],
  modelTypes: ['nomic_bert'],
  shape(config) {
    if (config.has('n_embd')) return published(config);
    return readGatedEncoder(config, {
      defaultActivation: 'silu',
      defaultTheta: THETA,
      hasKinds: true,
      renames: [[/^nomic_bert\./, '']],
    });
  },
};

function published(config: CheckpointConfig): ModelShape {
  for (const key of ['prenorm', 'parallel_block', 'use_rms_norm', 'rotary_emb_interleaved', 'causal'])
    requireValue(config, key, false);
  for (const key of ['qkv_proj_bias', 'mlp_fc1_bias', 'mlp_fc2_bias']) requireValue(config, key, false);
  requireValue(config, 'rotary_emb_fraction', 1);
  requireValue(config, 'activation_function', 'swiglu');
  for (const key of ['rotary_scaling_factor', 'rotary_emb_scale_base', 'num_experts'])
    requireValue(config, key);
  return readGatedEncoder(config, {
    keys: {
      ...{ hiddenSize: 'n_embd', numLayers: 'n_layer', numHeads: 'n_head', ffnSize: 'n_inner' },
      ...{ contextLength: 'n_positions', normEpsilon: 'layer_norm_epsilon' },
    },
    activation: 'silu',
    defaultTheta: THETA,
    thetaKey: 'rotary_emb_base',
    hasKinds: true,
    renames: [
      [/^(?:bert|nomic_bert)\./, ''],
      [/^encoder\.layers\./, 'layers.'],
      [/^emb_ln\./, 'embeddings.LayerNorm.'],
      [/\.attn\.out_proj\./, '.self_attn.o_proj.'],
      [/\.fc11\./, '.up_proj.'],
      [/\.fc12\./, '.gate_proj.'],
      [/\.fc2\./, '.down_proj.'],
      [/\.norm1\./, '.post_attention_layernorm.'],
      [/\.norm2\./, '.post_mlp_layernorm.'],
    ],
    qkv: (sizes) => stackedQkv('layers.{layer}.attn.Wqkv', sizes),
  });
}
