/**
 * GPT-NeoX (Pythia, Dolly 2, RedPajama-INCITE): attention and MLP side by side, each behind its own norm; or, with
 * use_parallel_residual off, one after the other.
 *
 * Source  transformers: configuration_gpt_neox.py, modeling_gpt_neox.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { groupedQkv } from './fused-qkv.js';

export const family: Family = {
  architectures: ['GPTNeoXForCausalLM'],
  modelTypes: ['gpt_neox'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', true);
    const layer = 'gpt_neox.layers.{layer}';
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      honours: ['use_parallel_residual'],
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      residual: config.boolean('use_parallel_residual', true) ? 'parallel' : 'sequential',
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: true },
      defaultActivation: 'gelu',
      gated: false,
      rope: { thetaKey: 'rotary_emb_base', partialKey: 'rotary_pct', defaultPartial: 0.25 },
      qkv: (sizes) => groupedQkv(`${layer}.attention.query_key_value`, sizes),
      names: {
        embedding: 'gpt_neox.embed_in',
        finalNorm: 'gpt_neox.final_layer_norm',
        head: 'embed_out',
        ignored: [/\.attention\.(bias|masked_bias)$/],
        renames: [[/^lm_head\./, 'embed_out.']],
      },
      layer: {
        attentionNorm: `${layer}.input_layernorm`,
        attentionOut: `${layer}.attention.dense`,
        mlpNorm: `${layer}.post_attention_layernorm`,
        up: `${layer}.mlp.dense_h_to_4h`,
        down: `${layer}.mlp.dense_4h_to_h`,
      },
    });
  },
};
