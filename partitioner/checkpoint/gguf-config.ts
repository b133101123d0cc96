/**
 * config.json and generation_config.json of a GGUF file, which has neither: made of its metadata.
 *
 * In      the headers of a GGUF model
 * Out     the keys that transformers' configuration of the same model has
 * Errors  ServingError CHECKPOINT_INVALID naming the file, and the key or tensor
 * Source  gguf-families.ts; llama.cpp's llama-model.cpp for what a missing key means
 */
import { ggufEndIds, ggufId } from '../../proto/gguf-ends.js';
import type { GgufHeader } from '../../proto/gguf-header.js';
import { familyOf, ROPE_TENSORS } from './gguf-families.js';
import type { GgufKeys } from './gguf-keys.js';
import type { GgufParts } from './gguf-parts.js';
import { readGgufVector } from './gguf-source.js';
import { checkpointError, type JsonObject } from './json-file.js';

const EMBEDDING = 'token_embd.weight';
const DEFAULT_THETA = 10_000;
/** llama.cpp's and transformers'. */
const YARN_BETAS = { fast: 32, slow: 1 };

/** @throws ServingError CHECKPOINT_INVALID */
export function readGgufConfig({ parts, whole: header }: GgufParts): {
  raw: JsonObject;
  generation: JsonObject;
} {
  const { family, keys } = familyOf(header);
  const embedding = header.tensors.get(EMBEDDING);
  if (embedding === undefined) throw checkpointError(header.path, `has no tensor ${EMBEDDING}`);
  const contextLength = keys.size('context_length');
  const raw = {
    architectures: [family.architecture],
    model_type: family.modelType,
    vocab_size: embedding.shape[0] ?? 0,
    hidden_size: keys.hiddenSize,
    intermediate_size: keys.size('feed_forward_length'),
    num_hidden_layers: keys.numLayers,
    num_attention_heads: keys.numHeads,
    num_key_value_heads: keys.numKvHeads,
    ...(family.hasLatents ? {} : { head_dim: keys.headDim }),
    hidden_act: 'silu',
    max_position_embeddings: contextLength,
    rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
    rope_theta: keys.number('rope.freq_base', DEFAULT_THETA),
    ...withYarn(ropeScaling(parts, header, keys, contextLength), family.yarn?.(keys)),
    tie_word_embeddings: !header.tensors.has('output.weight'),
    torch_dtype: 'float32',
    ...family.config(keys, header),
  };
  if (!family.hasLatents) {
    const rotated = keys.number('rope.dimension_count', keys.headDim);
    if (!('partial_rotary_factor' in raw) && rotated !== keys.headDim) {
      throw keys.wrong('rope.dimension_count', String(keys.headDim));
    }
  }
  if (!family.hasExperts) {
    keys.neutral('expert_count', 0);
    keys.neutral('expert_used_count', 0);
  }
  keys.neutral('attention.causal', true);
  keys.ignore('vocab_size', 'tensor_data_layout', 'rope.scaling.finetuned');
  keys.refuseOthers();
  const generation = { eos_token_id: ggufEndIds(header), bos_token_id: ggufId(header, 'bos') ?? null };
  // What is undefined was taken out by the family; null means none, which is not everywhere what an absent key means.
  const known = Object.entries(raw).filter(([, value]) => value !== undefined);
  return { raw: Object.fromEntries(known), generation };
}

/** What a family's YaRN has besides. */
function withYarn(scaling: JsonObject, own: JsonObject = {}): JsonObject {
  const { rope_scaling: section } = scaling as { rope_scaling?: JsonObject };
  return section?.rope_type === 'yarn' ? { ...scaling, rope_scaling: { ...section, ...own } } : scaling;
}

/** In Hugging Face's words. */
function ropeScaling(
  parts: readonly GgufHeader[],
  header: GgufHeader,
  keys: GgufKeys,
  contextLength: number,
): JsonObject {
  const kind = keys.text('rope.scaling.type', 'none');
  const factor = keys.nullableNumber('rope.scaling.factor') ?? keys.nullableNumber('rope.scale_linear');
  const original = keys.nullableNumber('rope.scaling.original_context_length');
  const attention = keys.nullableNumber('rope.scaling.attn_factor');
  const attentionFactor = attention === null ? {} : { attention_factor: attention };
  const factors = (name: string): number[] => [...readGgufVector(parts, name)];
  if (header.tensors.has(ROPE_TENSORS.factors)) {
    // Llama 3.1's stretching, a factor for each pair: the same for every text.
    const own = factors(ROPE_TENSORS.factors);
    if (!own.every((one) => one >= 1) || kind !== 'none') {
      throw checkpointError(
        header.path,
        `${ROPE_TENSORS.factors} has factors below 1, or rope.scaling.type is ${kind} beside it`,
      );
    }
    const both = { short_factor: own, long_factor: own, attention_factor: 1 };
    const place = { original_max_position_embeddings: contextLength };
    keys.ignore('rope.scaling.low_freq_factor', 'rope.scaling.high_freq_factor');
    return { rope_scaling: { rope_type: 'longrope', ...both, ...place } };
  }
  if (header.tensors.has(ROPE_TENSORS.long)) {
    return {
      original_max_position_embeddings: original ?? contextLength,
      rope_scaling: {
        rope_type: 'longrope',
        short_factor: factors(ROPE_TENSORS.short),
        long_factor: factors(ROPE_TENSORS.long),
        ...attentionFactor,
      },
    };
  }
  if (kind === 'none' || factor === null || factor === 0 || factor === 1) return {};
  if (kind === 'linear') return { rope_scaling: { rope_type: 'linear', factor } };
  if (kind === 'yarn' && attention === null) {
    const place = original === null ? {} : { original_max_position_embeddings: original };
    const ends = {
      beta_fast: keys.number('rope.scaling.yarn_beta_fast', YARN_BETAS.fast),
      beta_slow: keys.number('rope.scaling.yarn_beta_slow', YARN_BETAS.slow),
    };
    keys.neutral('rope.scaling.yarn_ext_factor', 1);
    return { rope_scaling: { rope_type: 'yarn', factor, ...place, ...ends, ...attentionFactor } };
  }
  throw keys.wrong('rope.scaling.type', 'none, linear or yarn, or longrope with its factors');
}
