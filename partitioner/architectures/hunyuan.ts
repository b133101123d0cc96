/**
 * HunYuan (dense: 0.5B to 7B): Llama's block with norms of heads after the rotation, whose base is stretched by `alpha`.
 *
 * Source  transformers: configuration and modeling of hunyuan_v1_dense
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { RopeShape } from '../plan/model-shape.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { readRope } from './read-rope.js';

const LAYER = 'model.layers.{layer}.self_attn';

/** What the dense ones and the mixtures share. */
export function hunyuanTraits(config: CheckpointConfig): FamilyTraits {
  const attentionBias = config.boolean('attention_bias', false);
  return {
    biases: { qkv: attentionBias, attentionOut: attentionBias },
    defaultEpsilon: 1e-5,
    headNorm: 'per-head',
    headNormAfterRotation: true,
    ropes: (headDim) => [readStretchedRope(config, headDim)],
    layer: { queryNorm: `${LAYER}.query_layernorm`, keyNorm: `${LAYER}.key_layernorm` },
  };
}

/** Published as `dynamic`, but for an alpha it is the same at every length. */
function readStretchedRope(config: CheckpointConfig, headDim: number): RopeShape {
  const rope = readRope(config, headDim);
  const section = config.section('rope_parameters') ?? config.section('rope_scaling');
  const type = section?.nullableString('rope_type') ?? section?.nullableString('type') ?? 'default';
  const alpha = section?.nullableNumber('alpha') ?? 0;
  if (type !== 'dynamic' || alpha === 0) return rope;
  return {
    ...rope,
    theta: rope.theta * (section?.positiveNumber('alpha') ?? 1) ** (headDim / (headDim - 2)),
  };
}

export const family: Family = {
  architectures: ['HunYuanDenseV1ForCausalLM'],
  modelTypes: ['hunyuan_v1_dense'],
  shape: (config) => readDecoderShape(config, hunyuanTraits(config)),
};
