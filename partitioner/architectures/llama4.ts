/**
 * Llama 4, text only: three layers of four attend within pieces of the text and rotate neighbouring pairs, the fourth sees all and rotates
 * nothing; experts whose weight multiplies what they read, and one that every token visits.
 *
 * Layout  an expert is a matrix of a stack [experts, in, out], gate beside up
 * Source  transformers: configuration_llama4.py, modeling_llama4.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, stackedExperts } from './experts.js';
import { readRotatedLayers } from './rotated-layers.js';

const MLP = 'model.layers.{layer}.feed_forward';

export const family: Family = {
  architectures: ['Llama4ForCausalLM'],
  modelTypes: ['llama4_text'],
  shape(config) {
    const rotates = readRotatedLayers(config, true);
    const hasUnitNorm = config.boolean('use_qk_norm', true);
    const attentionBias = config.boolean('attention_bias', false);
    const expertSize = config.positiveInteger('intermediate_size');
    return readDecoderShape(config, {
      keys: { ffnSize: 'intermediate_size_mlp' },
      honours: [
        ...['no_rope_layers', 'num_local_experts', 'use_qk_norm'],
        ...['attention_chunk_size', 'attn_temperature_tuning'],
      ],
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      defaultEpsilon: 1e-5,
      defaultKvHeads: 8,
      defaultHeadDim: 128,
      pieces: readPieces(config, rotates),
      rope: { defaultTheta: 500_000, interleaved: true },
      layerRopes: rotates.map((own) => (own ? 0 : null)),
      headNorm: hasUnitNorm ? 'unit' : 'none',
      headNormAfterRotation: true,
      unrotatedGrowth: readGrowth(config),
      experts: readExperts(
        config,
        { count: 'num_local_experts', ffnSize: 'intermediate_size' },
        {
          normalised: false,
          routing: { scoring: 'sigmoid', groups: null, scale: 1, weighs: 'inputs' },
          sharedFfnSize: expertSize,
          layers: readExpertLayers(config, rotates.length),
        },
      ),
      layer: {
        gate: `${MLP}.gate_proj`,
        up: `${MLP}.up_proj`,
        down: `${MLP}.down_proj`,
        experts: {
          router: `${MLP}.router`,
          choiceBias: null,
          ...stackedExperts(`${MLP}.experts`, expertSize, true),
          shared: {
            router: null,
            gate: `${MLP}.shared_expert.gate_proj`,
            up: `${MLP}.shared_expert.up_proj`,
            down: `${MLP}.shared_expert.down_proj`,
          },
        },
      },
    });
  },
};

function readPieces(config: CheckpointConfig, rotates: readonly boolean[]): (number | null)[] {
  const size = Object.hasOwn(config.raw, 'attention_chunk_size')
    ? config.nullablePositiveInteger('attention_chunk_size')
    : 8192;
  const types = config.has('layer_types')
    ? config.strings('layer_types')
    : rotates.map((own) => (own ? 'chunked_attention' : 'full_attention'));
  if (types.length !== rotates.length) throw config.wrong('layer_types', `${rotates.length} entries`);
  return types.map((type) => {
    if (type === 'full_attention') return null;
    if (type !== 'chunked_attention') {
      throw config.wrong('layer_types', '"full_attention" or "chunked_attention"');
    }
    if (size === null) throw config.wrong('attention_chunk_size', 'a size, since there are chunked layers');
    return size;
  });
}

/** True, or as first published a number that is not 0. */
function readGrowth(config: CheckpointConfig): { factor: number; period: number } | null {
  const { attn_temperature_tuning: told = true } = config.raw;
  if (told === null || told === false || told === 0) return null;
  return {
    factor: config.number('attn_scale', 0.1),
    period: config.positiveNumber('floor_scale', 8192),
  };
}

function readExpertLayers(config: CheckpointConfig, layers: number): boolean[] {
  const listed: unknown = config.raw.moe_layers ?? null;
  const step = config.positiveInteger('interleave_moe_layer_step', 1);
  if (listed === null) return Array.from({ length: layers }, (_, layer) => (layer + 1) % step === 0);
  if (!Array.isArray(listed) || listed.some((layer) => !Number.isSafeInteger(layer))) {
    throw config.wrong('moe_layers', 'a list of layers');
  }
  return Array.from({ length: layers }, (_, layer) => listed.includes(layer));
}
