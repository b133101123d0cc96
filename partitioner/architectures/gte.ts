/**
 * GTE of the second kind (gte-base-en-v1.5, gte-multilingual-base and what is made of them, snowflake-arctic-embed-m-v2.0), as
 * transformers saves it and as it is published (NewModel).
 *
 * Limits  the published spelling: packed queries, keys and values, a plain or linearly stretched rotation
 * Source  transformers: configuration_gte.py, modeling_gte.py, conversion_mapping.py
 */
import { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ModelShape } from '../plan/model-shape.js';
import { classifiersOf } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { stackedGateUp, stackedQkv } from './fused-qkv.js';
import { readGatedEncoder } from './gated-encoder.js';
import { requireValue } from './known-keys.js';

const THETA = 160_000;
const PUBLISHED_THETA = 10_000;
const BIASES = { qkv: true, attentionOut: true, mlp: false, mlpDown: true };

export const family: Family = {
  architectures: [
    ...['GteModel', 'GteForMaskedLM', ...classifiersOf('Gte')],
    ...['NewModel', 'NewForMaskedLM', ...classifiersOf('New')],
  ],
  modelTypes: ['gte', 'new'],
  shape(config) {
    const isPublished =
      config.nullableString('model_type') === 'new' ||
      (config.strings('architectures', [])[0] ?? '').startsWith('New');
    if (isPublished) return published(config, config.raw.type_vocab_size !== 0);
    // Where nothing is said the class in transformers has one kind.
    const raw = { type_vocab_size: 1, ...config.raw };
    const hasKinds = raw.type_vocab_size !== 0;
    return readGatedEncoder(new CheckpointConfig(raw, config.generation, config.folder), {
      biases: BIASES,
      defaultActivation: 'gelu',
      defaultTheta: THETA,
      hasKinds,
      renames: [[/^gte\./, '']],
    });
  },
};

function published(config: CheckpointConfig, hasKinds: boolean): ModelShape {
  requireValue(config, 'layer_norm_type', 'layer_norm');
  requireValue(config, 'position_embedding_type', 'rope');
  requireValue(config, 'pack_qkv', true);
  requireValue(config, 'logn_attention_scale', false);
  return readGatedEncoder(config, {
    biases: BIASES,
    defaultActivation: 'gelu',
    defaultTheta: PUBLISHED_THETA,
    hasKinds,
    renames: [
      [/^new\./, ''],
      [/^encoder\.layer\./, 'layers.'],
      [/\.attention\.o_proj\./, '.self_attn.o_proj.'],
      [/\.attn_ln\./, '.post_attention_layernorm.'],
      [/\.mlp_ln\./, '.post_mlp_layernorm.'],
    ],
    qkv: (sizes) => stackedQkv('layers.{layer}.attention.qkv_proj', sizes),
    gateUp: (ffnSize) => {
      // Up stands above the gate here.
      const { gate, up } = stackedGateUp('layers.{layer}.mlp.up_gate_proj', ffnSize);
      return { gate: up, up: gate };
    },
  });
}
