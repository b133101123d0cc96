/**
 * What NomicBERT and GTE share: BERT's order of norms and sums, rotated queries and keys instead of learned positions, a gated MLP.
 *
 * In      config.json, names, biases
 * Out     ModelShape, with the names transformers saves; a family's renames lead there from the published ones
 * Errors  ServingError CHECKPOINT_INVALID
 * Source  transformers: modeling_nomic_bert.py, modeling_gte.py, conversion_mapping.py for the published names
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { readEmbedding } from '../checkpoint/sentence-modules.js';
import type { LayerNames, ModelShape } from '../plan/model-shape.js';
import { poolerHead } from './bert.js';
import { readHead } from './classifier-head.js';
import { type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { ENCODER_IGNORED, textKinds, tokenTypes } from './encoder-shape.js';
import { requireValue } from './known-keys.js';

export interface GatedEncoderTraits
  extends Pick<FamilyTraits, 'biases' | 'defaultActivation' | 'keys' | 'qkv' | 'gateUp' | 'activation'> {
  defaultTheta: number;
  thetaKey?: string;
  renames: ModelShape['names']['renames'];
  layer?: Partial<LayerNames>;
  /** Kinds of text have an embedding. */
  hasKinds: boolean;
}

/** @throws ServingError CHECKPOINT_INVALID */
export function readGatedEncoder(config: CheckpointConfig, traits: GatedEncoderTraits): ModelShape {
  const { defaultTheta, hasKinds, keys, layer, renames, thetaKey, ...rest } = traits;
  requireValue(config, 'is_decoder', false);
  const hiddenSize = config.positiveInteger(keys?.hiddenSize ?? 'hidden_size');
  const contextLength = config.positiveInteger(keys?.contextLength ?? 'max_position_embeddings');
  const sizes = { hiddenSize, contextLength };
  const embedding = readHead(config, sizes, poolerHead(hiddenSize)) ?? readEmbedding(config, sizes);
  return readDecoderShape(config, {
    ...rest,
    keys: { normEpsilon: 'layer_norm_eps', ...keys },
    honours: ['is_causal'],
    defaultEpsilon: 1e-12,
    norm: { kind: 'layer' },
    attention: 'bidirectional',
    postNormOf: 'stream',
    rope: { defaultTheta, ...(thetaKey === undefined ? {} : { thetaKey }) },
    embedding,
    ...(hasKinds && embedding.labels !== null ? { textKinds: textKinds(config) } : {}),
    names: {
      embedding: 'embeddings.word_embeddings',
      tokenType: hasKinds ? tokenTypes(config) : null,
      embeddingNorm: 'embeddings.LayerNorm',
      finalNorm: null,
      head: null,
      renames,
      ignored: ENCODER_IGNORED,
    },
    layer: {
      attentionNorm: null,
      query: 'layers.{layer}.self_attn.q_proj',
      key: 'layers.{layer}.self_attn.k_proj',
      value: 'layers.{layer}.self_attn.v_proj',
      attentionOut: 'layers.{layer}.self_attn.o_proj',
      attentionPostNorm: 'layers.{layer}.post_attention_layernorm',
      mlpNorm: null,
      gate: 'layers.{layer}.mlp.gate_proj',
      up: 'layers.{layer}.mlp.up_proj',
      down: 'layers.{layer}.mlp.down_proj',
      mlpPostNorm: 'layers.{layer}.post_mlp_layernorm',
      ...layer,
    },
  });
}
