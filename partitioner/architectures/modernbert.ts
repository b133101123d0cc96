/**
 * ModernBERT: an encoder with rotated queries and keys, a window to both sides on two of three layers, a gated MLP and norms before
 * the branches; the first layer's attention reads the normed embeddings as they are.
 *
 * Source  transformers: configuration_modernbert.py, modeling_modernbert.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { readEmbedding } from '../checkpoint/sentence-modules.js';
import type { VectorActivation } from '../plan/embedding-shape.js';
import type { RopeShape } from '../plan/model-shape.js';
import { readActivation } from './activation.js';
import { classifiersOf, type HeadTraits, readHead, squareDense } from './classifier-head.js';
import { type Family, readDecoderShape, readWindows } from './decoder-shape.js';
import { stackedGateUp, stackedQkv } from './fused-qkv.js';
import { readRopeSection } from './read-rope.js';

const GLOBAL_THETA = 160_000;
const LOCAL_THETA = 10_000;
const PATTERN = 3;
const WINDOW = 128;

export const family: Family = {
  architectures: ['ModernBertModel', 'ModernBertForMaskedLM', ...classifiersOf('ModernBert')],
  modelTypes: ['modernbert'],
  shape(config) {
    const hiddenSize = config.positiveInteger('hidden_size');
    const contextLength = config.positiveInteger('max_position_embeddings');
    const sizes = { hiddenSize, contextLength };
    const half = Math.floor(config.positiveInteger('local_attention', WINDOW) / 2);
    const pattern = config.positiveInteger('global_attn_every_n_layers', PATTERN);
    const windows = readWindows(config, half + 1, (layer) => layer % pattern !== 0);
    const attentionBias = config.boolean('attention_bias', false);
    const layer = 'layers.{layer}';
    return readDecoderShape(config, {
      keys: { activation: 'hidden_activation', normEpsilon: 'norm_eps' },
      honours: ['is_causal'],
      defaultActivation: 'gelu',
      defaultEpsilon: 1e-5,
      norm: { kind: 'layer', hasBias: config.boolean('norm_bias', false) },
      attention: 'bidirectional',
      firstLayerUnnormed: true,
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', false) },
      windows,
      ropes: (headDim) => readRopes(config, headDim),
      layerRopes: windows.map((window) => (window === null ? 0 : 1)),
      embedding: readHead(config, sizes, headOf(config, hiddenSize)) ?? readEmbedding(config, sizes),
      names: {
        embedding: 'embeddings.tok_embeddings',
        embeddingNorm: 'embeddings.norm',
        finalNorm: 'final_norm',
        head: null,
        renames: [[/^model\./, '']],
        ignored: [/^(head|decoder)\./],
      },
      layer: {
        attentionNorm: `${layer}.attn_norm`,
        attentionOut: `${layer}.attn.Wo`,
        mlpNorm: `${layer}.mlp_norm`,
        down: `${layer}.mlp.Wo`,
      },
      qkv: (heads) => stackedQkv(`${layer}.attn.Wqkv`, heads),
      gateUp: (ffnSize) => stackedGateUp(`${layer}.mlp.Wi`, ffnSize),
    });
  },
};

/** The rotation of full layers, then that of layers with a window; in either layout of config.json. */
function readRopes(config: CheckpointConfig, headDim: number): RopeShape[] {
  const both = config.section('rope_parameters');
  const full = both === null ? config.section('rope_scaling') : both.section('full_attention');
  const local = both === null ? config.section('rope_scaling') : both.section('sliding_attention');
  return [
    readRopeSection(config, full, headDim, { thetaKey: 'global_rope_theta', defaultTheta: GLOBAL_THETA }),
    readRopeSection(config, local, headDim, { thetaKey: 'local_rope_theta', defaultTheta: LOCAL_THETA }),
  ];
}

function headOf(config: CheckpointConfig, size: number): HeadTraits {
  const pooling = config.string('classifier_pooling', 'cls');
  if (pooling !== 'cls' && pooling !== 'mean') throw config.wrong('classifier_pooling', '"cls" or "mean"');
  const activation = readActivation(config, 'classifier_activation', 'gelu');
  if (activation === 'quick-gelu' || activation === 'relu-squared' || activation === 'xielu') {
    throw config.wrong('classifier_activation', 'silu, gelu or relu');
  }
  const epsilon = config.positiveNumber('norm_eps', 1e-5);
  return {
    pooling: pooling === 'cls' ? 'first' : 'mean',
    before: [
      squareDense(
        'head.dense',
        size,
        activation satisfies VectorActivation,
        config.boolean('classifier_bias', false),
      ),
      { kind: 'layer-norm', stem: 'head.norm', size, epsilon, hasBias: config.boolean('norm_bias', false) },
    ],
    stem: 'classifier',
    hasBias: true,
  };
}
