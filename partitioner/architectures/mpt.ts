/**
 * MPT: no positions but ALiBi, layer norms without bias, no bias anywhere.
 *
 * Source  transformers: configuration_mpt.py, modeling_mpt.py (which takes 8 for alibi_bias_max, whatever is written)
 */

import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { ConfigSection } from '../checkpoint/config-section.js';
import { mptSlopes } from './alibi-slopes.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { stackedQkv } from './fused-qkv.js';

export const family: Family = {
  architectures: ['MptForCausalLM', 'MPTForCausalLM'],
  modelTypes: ['mpt'],
  shape(config) {
    const attention = readAttention(config);
    const scale = attention.has('softmax_scale') ? attention.positiveNumber('softmax_scale') : null;
    const layer = 'transformer.blocks.{layer}';
    return readDecoderShape(config, {
      keys: {
        hiddenSize: 'd_model',
        numLayers: 'n_layers',
        numHeads: 'n_heads',
        contextLength: 'max_seq_len',
        normEpsilon: 'layer_norm_epsilon',
      },
      honours: ['attn_config'],
      norm: { kind: 'layer', hasBias: false },
      defaultEpsilon: 1e-5,
      defaultFfnFactor: 4,
      activation: 'gelu',
      gated: false,
      rope: null,
      alibiSlopes: mptSlopes,
      qkvClip: attention.has('clip_qkv') ? attention.positiveNumber('clip_qkv') : null,
      ...(scale === null ? {} : { queryScale: () => scale }),
      defaultTiedHead: true,
      qkv: (sizes) => stackedQkv(`${layer}.attn.Wqkv`, sizes),
      names: { embedding: 'transformer.wte', finalNorm: 'transformer.norm_f' },
      layer: {
        attentionNorm: `${layer}.norm_1`,
        attentionOut: `${layer}.attn.out_proj`,
        mlpNorm: `${layer}.norm_2`,
        up: `${layer}.ffn.up_proj`,
        down: `${layer}.ffn.down_proj`,
      },
    });
  },
};

/** What there is a formula for; the other variants of the training code exist in no published model of this architecture. */
const ONLY: Readonly<Record<string, unknown>> = {
  attn_type: 'multihead_attention',
  prefix_lm: false,
  qk_ln: false,
  alibi: true,
  alibi_bias_max: 8,
};

/** @throws ServingError CHECKPOINT_INVALID */
function readAttention(config: CheckpointConfig): ConfigSection {
  const attention = config.section('attn_config') ?? new ConfigSection({}, config.where);
  for (const [key, value] of Object.entries(ONLY)) {
    if (attention.has(key) && attention.raw[key] !== value) throw attention.wrong(key, JSON.stringify(value));
  }
  // transformers takes 4, whatever is written.
  if (config.number('expansion_ratio', 4) !== 4) throw config.wrong('expansion_ratio', '4');
  if (!config.boolean('no_bias', true)) throw config.wrong('no_bias', 'true');
  if (config.number('embedding_fraction', 1) !== 1) throw config.wrong('embedding_fraction', '1');
  return attention;
}
