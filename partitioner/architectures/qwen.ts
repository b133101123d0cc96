/**
 * Qwen (1): Llama's block under GPT-2's names, with a bias on query, key and value.
 *
 * Limits  contexts up to seq_length: its dynamic base and logarithmic scores begin beyond it, so they change nothing here
 * Source  the model's own modeling_qwen.py (w1 is up, w2 is gate, each half of intermediate_size); the mathematics is
 *         modeling_qwen2.py's
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { stackedQkv } from './fused-qkv.js';
import { requireValue } from './known-keys.js';

export const family: Family = {
  architectures: ['QWenLMHeadModel'],
  modelTypes: ['qwen'],
  shape(config) {
    requireValue(config, 'no_bias', true);
    requireValue(config, 'rotary_pct', 1);
    const kvChannels = config.nullablePositiveInteger('kv_channels');
    const bothHalves = config.positiveInteger('intermediate_size');
    if (bothHalves % 2 !== 0) throw config.wrong('intermediate_size', 'an even number');
    const layer = 'transformer.h.{layer}';
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_epsilon', contextLength: 'seq_length' },
      biases: { qkv: true },
      ffnSize: bothHalves / 2,
      defaultHeadDim: kvChannels,
      rope: { thetaKey: 'rotary_emb_base' },
      qkv: (sizes) => stackedQkv(`${layer}.attn.c_attn`, sizes),
      names: { embedding: 'transformer.wte', finalNorm: 'transformer.ln_f' },
      layer: {
        attentionNorm: `${layer}.ln_1`,
        attentionOut: `${layer}.attn.c_proj`,
        mlpNorm: `${layer}.ln_2`,
        gate: `${layer}.mlp.w2`,
        up: `${layer}.mlp.w1`,
        down: `${layer}.mlp.c_proj`,
      },
    });
  },
};
