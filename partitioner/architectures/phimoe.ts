/**
 * Phi-3.5-MoE: Mixtral's names with layer norms, biases, and a router that weighs each of two experts by those whose scores come near.
 *
 * Limits  positions up to those before LongRoPE's stretching: beyond them transformers computes otherwise than the authors' code
 * Source  transformers: configuration_phimoe.py, modeling_phimoe.py (sparsemixer)
 */
import { CheckpointConfig } from '../checkpoint/config-file.js';
import type { RopeShape } from '../plan/model-shape.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts } from './experts.js';
import { requireValue } from './known-keys.js';
import { readRope } from './read-rope.js';

const LAYER = 'model.layers.{layer}.block_sparse_moe';
const JITTER = 0.01;
const THETA = 1_000_000;

export const family: Family = {
  architectures: ['PhimoeForCausalLM', 'PhiMoEForCausalLM'],
  modelTypes: ['phimoe'],
  shape(config) {
    const numLayers = config.positiveInteger('num_hidden_layers');
    requireValue(config, 'num_experts_per_tok', 2);
    if ((config.nullablePositiveInteger('sliding_window') ?? Number.POSITIVE_INFINITY) < contextOf(config)) {
      throw config.wrong(
        'sliding_window',
        `none, or at least the ${contextOf(config)} positions that are served`,
      );
    }
    const bias = config.boolean('attention_bias', false);
    const jitter = config.has('router_jitter_noise') ? config.number('router_jitter_noise') : JITTER;
    return readDecoderShape(config, {
      honours: ['num_local_experts'],
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      biases: { qkv: bias, attentionOut: bias, head: config.boolean('lm_head_bias', false) },
      defaultKvHeads: 8,
      contextLength: contextOf(config),
      ropes: (headDim) => [readPlainRope(config, headDim)],
      experts: readExperts(
        config,
        { count: 'num_local_experts', ffnSize: 'intermediate_size' },
        {
          normalised: false,
          sharedFfnSize: null,
          layers: Array.from({ length: Math.min(numLayers, 1024) }, () => true),
          routing: { scoring: 'nearest-softmax', nearness: 2 * jitter, groups: null, scale: 1 },
        },
      ),
      layer: {
        experts: {
          router: `${LAYER}.gate`,
          gate: `${LAYER}.experts.{expert}.w1`,
          up: `${LAYER}.experts.{expert}.w3`,
          down: `${LAYER}.experts.{expert}.w2`,
          choiceBias: null,
          shared: null,
        },
      },
    });
  },
};

/** LongRoPE's table for texts within the original context, whose angles have a magnitude of their own here. */
function readPlainRope(config: CheckpointConfig, headDim: number): RopeShape {
  const section = config.section('rope_parameters') ?? config.section('rope_scaling');
  const { long_mscale: _, short_mscale: short, ...raw } = section?.raw ?? {};
  const type = section?.nullableString('rope_type') ?? section?.nullableString('type') ?? 'default';
  if (section === null || type === 'default') return readRope(config, headDim, { defaultTheta: THETA });
  if (typeof short !== 'number' || !(short > 0)) throw section.wrong('short_mscale', 'a number above 0');
  const plain = new CheckpointConfig(
    { ...config.raw, rope_parameters: { ...raw, attention_factor: short }, rope_scaling: null },
    config.generation,
    config.folder,
  );
  return readRope(plain, headDim, { defaultTheta: THETA });
}

function contextOf(config: CheckpointConfig): number {
  const section = config.section('rope_parameters') ?? config.section('rope_scaling');
  const most = config.positiveInteger('max_position_embeddings');
  const original =
    section?.nullablePositiveInteger('original_max_position_embeddings') ??
    config.nullablePositiveInteger('original_max_position_embeddings');
  return Math.min(most, original ?? most);
}
