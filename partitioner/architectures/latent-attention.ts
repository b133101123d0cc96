/**
 * Multi-head latent attention of a config.json → what DeepSeek's block and its kin share.
 *
 * In      config.json; how the family rotates
 * Out     traits of the attention
 * Limits  a cached row of at most 1,024 columns, which is what the kernels have
 * Errors  ServingError CHECKPOINT_INVALID
 * Source  transformers: configuration_deepseek_v3.py, modeling_deepseek_v3.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { LatentShape } from '../plan/model-shape.js';
import type { FamilyTraits } from './decoder-shape.js';
import { readRope } from './read-rope.js';

/** SS_MAX_HEAD of shard-worker/kernels/kernels.h. */
const MAX_CACHED = 1024;
/** Norms of latents have it, whatever config.json says. */
const LATENT_EPSILON = 1e-6;

export interface LatentTraits {
  /** Pairs that are rotated are neighbours. */
  interleaved: boolean;
  /** Where config.json has no `q_lora_rank`; null there means none. */
  defaultQueryRank: number;
  /** `partial_rotary_factor` says which part of a head is rotated, beside `qk_rope_head_dim`. */
  isPartOfHead?: boolean;
  queryGrowth?: LatentShape['queryGrowth'];
}

/** @throws ServingError CHECKPOINT_INVALID */
export function latentTraits(
  config: CheckpointConfig,
  { defaultQueryRank, interleaved, isPartOfHead = false, queryGrowth = null }: LatentTraits,
): Partial<FamilyTraits> {
  const heads = config.positiveInteger('num_attention_heads');
  if ((config.nullablePositiveInteger('num_key_value_heads') ?? heads) !== heads) {
    throw config.wrong('num_key_value_heads', `num_attention_heads (${heads}): all heads share one latent`);
  }
  const size = (key: string): number => {
    const value = config.positiveInteger(key);
    if (value > MAX_CACHED) throw config.wrong(key, `at most ${MAX_CACHED}`);
    return value;
  };
  const rank = size('kv_lora_rank');
  const rotated = size('qk_rope_head_dim');
  const plainDim = size('qk_nope_head_dim');
  if (rotated % 2 !== 0) throw config.wrong('qk_rope_head_dim', 'an even number');
  if (rank + rotated > MAX_CACHED) {
    throw config.wrong('kv_lora_rank', `with qk_rope_head_dim (${rotated}) at most ${MAX_CACHED}`);
  }
  const hasRank = Object.hasOwn(config.raw, 'q_lora_rank');
  const at = (name: string): string => `model.layers.{layer}.self_attn.${name}`;
  const queryRank = hasRank ? config.nullablePositiveInteger('q_lora_rank') : defaultQueryRank;
  const bias = config.boolean('attention_bias', false);
  const scale = scoreScale(config) / Math.sqrt(plainDim + rotated);
  return {
    numKvHeads: 1,
    headDim: rank + rotated,
    latent: {
      rank,
      queryRank,
      plainDim,
      valueDim: size('v_head_dim'),
      epsilon: LATENT_EPSILON,
      queryGrowth,
    },
    biases: { qkv: bias, attentionOut: bias },
    ropes: () => {
      const head = isPartOfHead ? plainDim + rotated : rotated;
      const rope = readRope(config, head, { interleaved, defaultPartial: rotated / head });
      if (rope.rotaryDim !== rotated)
        throw config.wrong('qk_rope_head_dim', `${rope.rotaryDim}, as the rotation says`);
      return [rope];
    },
    queryScale: () => scale,
    layer: {
      query: at(queryRank === null ? 'q_proj' : 'q_b_proj'),
      latent: {
        queryDown: at('q_a_proj'),
        queryDownNorm: at('q_a_layernorm'),
        keyValueDown: at('kv_a_proj_with_mqa'),
        keyValueDownNorm: at('kv_a_layernorm'),
        keyValueUp: at('kv_b_proj'),
      },
    },
  };
}

/** YaRN's, squared, for query and key. */
function scoreScale(config: CheckpointConfig): number {
  const section = config.section('rope_parameters') ?? config.section('rope_scaling');
  const type = section?.nullableString('rope_type') ?? section?.nullableString('type') ?? 'default';
  const all = section?.nullableNumber('mscale_all_dim') ?? 0;
  if (section === null || type === 'default' || all === 0) return 1;
  const factor = section.positiveNumber('factor');
  return factor <= 1 ? 1 : (0.1 * all * Math.log(factor) + 1) ** 2;
}
