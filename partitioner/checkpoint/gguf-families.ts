/**
 * Families that GGUF files come in: what llama.cpp's converter calls their tensors, what it does to them, and what their metadata mean.
 *
 * In      a header
 * Out     each tensor's place in a Hugging Face checkpoint; config.json's keys
 * Rules   A key of the family's metadata that nobody here knows is refused: it may change what the model computes.
 * Errors  ServingError CHECKPOINT_INVALID naming the file, and the architecture or key
 * Source  llama.cpp convert_hf_to_gguf.py (permute, norm_shift), gguf-py's tensor_mapping.py; llama.cpp's graphs for what no key says
 */
import type { GgufHeader } from '../../proto/gguf-header.js';
import { GgufKeys } from './gguf-keys.js';
import { checkpointError, type JsonObject, printableName } from './json-file.js';

/** Where a tensor stands in a Hugging Face checkpoint. */
export interface GgufPlace {
  /** With EXPERT in it a stack, a matrix for each expert. */
  name: string;
  /** Heads whose rows the converter turned from halves into neighbours; null: left alone. */
  heads: number | null;
  /** Added to each element, to take back what the converter added. */
  addend: number;
  /** A vector that is a matrix of one row there. */
  isRow?: boolean;
}

/** In a place's name: the number of an expert. */
export const EXPERT = '{expert}';

export interface GgufFamily {
  architecture: string;
  modelType: string;
  /** Llama's rotation is of neighbours in llama.cpp and of halves here. */
  turnsHeads?: boolean;
  /** Norms of 1 + weight are stored with the 1. */
  normsPlusOne?: boolean;
  hasExperts?: boolean;
  /** Multi-head latent attention: sizes of heads are the family's, and its keys are not everybody's. */
  hasLatents?: boolean;
  /** A layer's, beside LAYER_NAMES: all that is called so, or one tensor with its ending. */
  layer?: Readonly<Record<string, string>>;
  /** What its YaRN has that no common key says. */
  yarn?(keys: GgufKeys): JsonObject;
  config(keys: GgufKeys, header: GgufHeader): JsonObject;
}

/** `blk.N.X` → `model.layers.N.Y` */
const LAYER_NAMES: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const FOUR_NORMS = {
  post_attention_norm: 'post_attention_layernorm',
  ffn_norm: 'pre_feedforward_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};

const WHOLE_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

/** Factors of the rotation: read with the configuration. */
export const ROPE_TENSORS = {
  factors: 'rope_freqs.weight',
  long: 'rope_factors_long.weight',
  short: 'rope_factors_short.weight',
} as const;

const hasTensor = ({ tensors }: GgufHeader, name: string): boolean => tensors.has(name);

/** Gemma 2 and 3: what the scores are divided by is in no key but in the size of the model, as llama.cpp has it. */
function gemmaScale(keys: GgufKeys, largeLayers: number): number {
  const { headDim, hiddenSize, numHeads, numLayers } = keys;
  return numLayers === largeLayers ? hiddenSize / numHeads : headDim;
}

/** llama.cpp has Mixtral as a Llama with experts. */
const MIXTRAL: GgufFamily = {
  architecture: 'MixtralForCausalLM',
  modelType: 'mixtral',
  turnsHeads: true,
  hasExperts: true,
  layer: {
    ffn_gate_inp: 'block_sparse_moe.gate',
    ffn_gate_exps: `block_sparse_moe.experts.${EXPERT}.w1`,
    ffn_up_exps: `block_sparse_moe.experts.${EXPERT}.w3`,
    ffn_down_exps: `block_sparse_moe.experts.${EXPERT}.w2`,
  },
  config: (keys) => ({
    num_local_experts: keys.size('expert_count'),
    num_experts_per_tok: keys.size('expert_used_count'),
  }),
};

/** A tensor for each expert of a stack. */
const MLP_EXPERTS = {
  ffn_gate_inp: 'mlp.gate',
  ffn_gate_exps: `mlp.experts.${EXPERT}.gate_proj`,
  ffn_up_exps: `mlp.experts.${EXPERT}.up_proj`,
  ffn_down_exps: `mlp.experts.${EXPERT}.down_proj`,
};

/** Qwen2-MoE's, written as a vector. */
const ROW = 'ffn_gate_inp_shexp';

/** Stacks stay stacks; that they lie as llama.cpp has them the family sees for itself (architectures/gpt-oss.ts). */
const GPT_OSS: GgufFamily = {
  architecture: 'GptOssForCausalLM',
  modelType: 'gpt_oss',
  hasExperts: true,
  layer: {
    post_attention_norm: 'post_attention_layernorm',
    'attn_sinks.weight': 'self_attn.sinks',
    ffn_gate_inp: 'mlp.router',
    ffn_gate_exps: 'mlp.experts.gate_proj',
    ffn_up_exps: 'mlp.experts.up_proj',
    ffn_down_exps: 'mlp.experts.down_proj',
  },
  // As the model was trained; llama.cpp rounds where the pairs begin and end that YaRN turns slower.
  yarn: () => ({ truncate: false }),
  config: (keys, header) => ({
    attention_bias: hasTensor(header, 'blk.0.attn_q.bias'),
    intermediate_size: keys.size('expert_feed_forward_length'),
    num_local_experts: keys.size('expert_count'),
    num_experts_per_tok: keys.size('expert_used_count'),
    sliding_window: keys.size('attention.sliding_window'),
  }),
};

/** llama.cpp's numbers of what the router's scores go through. */
const SOFTMAX = 1;
const SIGMOID = 2;

/** DeepSeek V2 and V3, and what llama.cpp computes as them: which of the two is told by the router. */
const DEEPSEEK2: GgufFamily = {
  architecture: 'DeepseekV2ForCausalLM',
  modelType: 'deepseek_v2',
  hasExperts: true,
  hasLatents: true,
  layer: {
    ...MLP_EXPERTS,
    attn_q_a: 'self_attn.q_a_proj',
    attn_q_a_norm: 'self_attn.q_a_layernorm',
    attn_q_b: 'self_attn.q_b_proj',
    attn_kv_a_mqa: 'self_attn.kv_a_proj_with_mqa',
    attn_kv_a_norm: 'self_attn.kv_a_layernorm',
    // One matrix in files until April 2025, two since (gguf-latents.ts).
    attn_kv_b: 'self_attn.kv_b_proj',
    attn_k_b: 'self_attn.k_b_proj',
    attn_v_b: 'self_attn.v_b_proj',
    'exp_probs_b.bias': 'mlp.gate.e_score_correction_bias',
    ffn_gate_shexp: 'mlp.shared_experts.gate_proj',
    ffn_up_shexp: 'mlp.shared_experts.up_proj',
    ffn_down_shexp: 'mlp.shared_experts.down_proj',
  },
  // The factor of scores; that of the rotation is its own inverse in llama.cpp's graph.
  yarn(keys) {
    const factor = Number((10 * keys.number('rope.scaling.yarn_log_multiplier', 0)).toPrecision(6));
    return factor === 0 ? {} : { mscale: factor, mscale_all_dim: factor };
  },
  config(keys, header) {
    keys.neutral('expert_gating_func', SOFTMAX, SIGMOID);
    const isV3 = keys.number('expert_gating_func', SOFTMAX) === SIGMOID;
    const rank = keys.size('attention.kv_lora_rank');
    const rotated = keys.size('rope.dimension_count');
    const isSplit = hasTensor(header, 'blk.0.attn_k_b.weight');
    const ending = isSplit ? '_mla' : '';
    if (isSplit) {
      keys.neutral('attention.key_length', rank + rotated);
      keys.neutral('attention.value_length', rank);
    }
    keys.neutral('attention.head_count_kv', 1, keys.numHeads);
    const groups = keys.size('expert_group_count', 1);
    const softmax = { topk_method: groups > 1 ? 'group_limited_greedy' : 'greedy', scoring_func: 'softmax' };
    return {
      ...(isV3 ? { architectures: ['DeepseekV3ForCausalLM'], model_type: 'deepseek_v3' } : {}),
      ...(isV3 ? { topk_method: 'noaux_tc', scoring_func: 'sigmoid' } : softmax),
      num_key_value_heads: keys.numHeads,
      attention_bias: false,
      q_lora_rank: keys.nullableNumber('attention.q_lora_rank'),
      kv_lora_rank: rank,
      qk_rope_head_dim: rotated,
      qk_nope_head_dim: keys.size(`attention.key_length${ending}`) - rotated,
      v_head_dim: keys.size(`attention.value_length${ending}`),
      n_routed_experts: keys.size('expert_count'),
      num_experts_per_tok: keys.size('expert_used_count'),
      n_shared_experts: keys.size('expert_shared_count'),
      moe_intermediate_size: keys.size('expert_feed_forward_length'),
      first_k_dense_replace: keys.number('leading_dense_block_count', 0),
      n_group: groups,
      topk_group: keys.size('expert_group_used_count', 1),
      norm_topk_prob: keys.boolean('expert_weights_norm', false),
      routed_scaling_factor: keys.number('expert_weights_scale', 1),
    };
  },
};

/** By `general.architecture`. */
const FAMILIES: Readonly<Record<string, GgufFamily>> = {
  llama: {
    architecture: 'LlamaForCausalLM',
    modelType: 'llama',
    turnsHeads: true,
    config: (_, header) => ({ attention_bias: hasTensor(header, 'blk.0.attn_q.bias') }),
  },
  qwen2: { architecture: 'Qwen2ForCausalLM', modelType: 'qwen2', config: () => ({}) },
  qwen3: {
    architecture: 'Qwen3ForCausalLM',
    modelType: 'qwen3',
    config: (_, header) => ({ attention_bias: hasTensor(header, 'blk.0.attn_q.bias') }),
  },
  qwen3moe: {
    architecture: 'Qwen3MoeForCausalLM',
    modelType: 'qwen3_moe',
    hasExperts: true,
    layer: MLP_EXPERTS,
    // llama.cpp's graph makes the chosen ones' weights sum up to 1, and has experts in all layers.
    config: (keys) => ({
      num_experts: keys.size('expert_count'),
      num_experts_per_tok: keys.size('expert_used_count'),
      moe_intermediate_size: keys.size('expert_feed_forward_length'),
      norm_topk_prob: true,
    }),
  },
  qwen2moe: {
    architecture: 'Qwen2MoeForCausalLM',
    modelType: 'qwen2_moe',
    hasExperts: true,
    layer: {
      ...MLP_EXPERTS,
      [ROW]: 'mlp.shared_expert_gate',
      ffn_gate_shexp: 'mlp.shared_expert.gate_proj',
      ffn_up_shexp: 'mlp.shared_expert.up_proj',
      ffn_down_shexp: 'mlp.shared_expert.down_proj',
    },
    // llama.cpp's graph leaves the chosen ones' weights as they are.
    config: (keys, header) => ({
      qkv_bias: hasTensor(header, 'blk.0.attn_q.bias'),
      num_experts: keys.size('expert_count'),
      num_experts_per_tok: keys.size('expert_used_count'),
      moe_intermediate_size: keys.size('expert_feed_forward_length'),
      shared_expert_intermediate_size: keys.size('expert_shared_feed_forward_length'),
      norm_topk_prob: false,
    }),
  },
  'gpt-oss': GPT_OSS,
  deepseek2: DEEPSEEK2,
  gemma: {
    architecture: 'GemmaForCausalLM',
    modelType: 'gemma',
    normsPlusOne: true,
    config: () => ({ hidden_act: 'gelu_pytorch_tanh' }),
  },
  gemma2: {
    architecture: 'Gemma2ForCausalLM',
    modelType: 'gemma2',
    normsPlusOne: true,
    layer: FOUR_NORMS,
    config: (keys) => ({
      hidden_act: undefined,
      hidden_activation: 'gelu_pytorch_tanh',
      query_pre_attn_scalar: gemmaScale(keys, 46),
      attn_logit_softcapping: keys.number('attn_logit_softcapping', 50),
      final_logit_softcapping: keys.number('final_logit_softcapping', 30),
      sliding_window: keys.number('attention.sliding_window', 4096),
    }),
  },
  gemma3: {
    architecture: 'Gemma3ForCausalLM',
    modelType: 'gemma3_text',
    normsPlusOne: true,
    layer: FOUR_NORMS,
    config: (keys) => ({
      hidden_act: undefined,
      hidden_activation: 'gelu_pytorch_tanh',
      query_pre_attn_scalar: gemmaScale(keys, 62),
      final_logit_softcapping: keys.nullableNumber('final_logit_softcapping'),
      rope_theta: keys.number('rope.freq_base', 1_000_000),
      rope_local_base_freq: keys.number('rope.freq_base_swa', 10_000),
      sliding_window: keys.number('attention.sliding_window', 1024),
      sliding_window_pattern: keys.number('attention.sliding_window_pattern', 6),
    }),
  },
  phi3: {
    architecture: 'Phi3ForCausalLM',
    modelType: 'phi3',
    layer: { attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
    config: (keys) => ({
      sliding_window: keys.nullableNumber('attention.sliding_window') || null,
      partial_rotary_factor: keys.number('rope.dimension_count', keys.headDim) / keys.headDim,
    }),
  },
};

/** @throws ServingError CHECKPOINT_INVALID */
export function familyOf(header: GgufHeader): { family: GgufFamily; keys: GgufKeys } {
  const name = header.metadata.get('general.architecture');
  const known = typeof name === 'string' && Object.hasOwn(FAMILIES, name) ? FAMILIES[name] : undefined;
  if (typeof name !== 'string' || known === undefined) {
    const shown = typeof name === 'string' ? printableName(name) : 'absent';
    const names = Object.keys(FAMILIES).join(', ');
    throw checkpointError(
      header.path,
      `general.architecture is ${shown}, which is not read from GGUF (${names} are); take the original checkpoint`,
    );
  }
  const experts = header.metadata.get('llama.expert_count') ?? 0;
  return {
    family: name === 'llama' && experts !== 0 ? MIXTRAL : known,
    keys: new GgufKeys(header, name),
  };
}

/** By their names in the file; null: read with the configuration. What is not in it has no place. */
export function placesOf(header: GgufHeader): Map<string, GgufPlace | null> {
  const { family, keys } = familyOf(header);
  const layerNames: Readonly<Record<string, string>> = { ...LAYER_NAMES, ...family.layer };
  const places = new Map<string, GgufPlace | null>();
  const ropeTensors: readonly string[] = Object.values(ROPE_TENSORS);
  for (const name of header.tensors.keys()) {
    if (ropeTensors.includes(name)) {
      places.set(name, null);
      continue;
    }
    const [, layer, part = '', kind] = /^blk\.(\d{1,4})\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
    const found = Object.hasOwn(WHOLE_NAMES, name)
      ? WHOLE_NAMES[name]
      : Object.hasOwn(layerNames, `${part}.${kind}`)
        ? `model.layers.${layer}.${layerNames[`${part}.${kind}`]}`
        : Object.hasOwn(layerNames, part)
          ? `model.layers.${layer}.${layerNames[part]}.${kind}`
          : undefined;
    if (found === undefined) continue;
    const turned = family.turnsHeads && (part === 'attn_q' || part === 'attn_k');
    places.set(name, {
      name: found,
      heads: turned ? (part === 'attn_q' ? keys.numHeads : keys.numKvHeads) : null,
      addend: family.normsPlusOne && /norm\.weight$/.test(name) ? -1 : 0,
      ...(part === ROW ? { isRow: true } : {}),
    });
  }
  return places;
}
