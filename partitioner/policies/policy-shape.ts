/**
 * An injection policy and config.json → ModelShape, by the same reader that families use.
 *
 * In      InjectionPolicy, config.json
 * Out     ModelShape
 * Errors  ServingError CHECKPOINT_INVALID: as for a family; and every key of config.json that neither Shardserve nor the policy
 *         has an answer to (config-answers.ts)
 */

import { bloomSlopes, mptSlopes } from '../architectures/alibi-slopes.js';
import {
  type ConfigKeys,
  type FamilyTraits,
  type HeadSizes,
  readDecoderShape,
  readWindowSize,
  readWindows,
} from '../architectures/decoder-shape.js';
import { groupedQkv, stackedGateUp, stackedQkv } from '../architectures/fused-qkv.js';
import { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ModelShape, Place, RolePlace } from '../plan/model-shape.js';
import { checkConfigAnswers, checkStated } from './config-answers.js';
import type { InjectionPolicy } from './injection-policy.js';

const LLAMA_SPELLING: ConfigKeys = {
  hiddenSize: 'hidden_size',
  numLayers: 'num_hidden_layers',
  numHeads: 'num_attention_heads',
  numKvHeads: 'num_key_value_heads',
  ffnSize: 'intermediate_size',
  contextLength: 'max_position_embeddings',
  activation: 'hidden_act',
  normEpsilon: 'rms_norm_eps',
};

/** @throws ServingError CHECKPOINT_INVALID */
export function policyShape(policy: InjectionPolicy, given: CheckpointConfig): ModelShape {
  const keys = configKeys(policy);
  checkConfigAnswers(policy, keys, given);
  const config = completedConfig(policy, keys, given);
  const { block, column_parallel: column, covered_config_keys: covered = [] } = policy;
  const thetaKey = policy.config_keys?.rope_theta ?? 'rope_theta';
  checkStated(config, keys, block.positions.startsWith('rope'), thetaKey);
  return readDecoderShape(config, {
    keys,
    honours: covered,
    biases: {
      qkv: block.biases.query_key_value,
      attentionOut: block.biases.attention_out,
      mlp: block.biases.mlp,
      head: block.biases.head,
    },
    norm: {
      kind: block.norm,
      hasWeight: block.norm_weight !== 'none',
      plusOne: block.norm_weight === 'one_plus',
      hasBias: block.norm_bias ?? (block.norm === 'layer' && block.norm_weight !== 'none'),
    },
    residual: block.residual,
    residualScale: block.residual_scale ?? 1,
    headNorm: headNorm(block.head_norm),
    windows: windows(block.windowed_layers, config),
    gated: column.gate !== undefined || column.gate_up !== undefined,
    qkvClip: block.query_key_value_clip ?? null,
    attentionSoftCap: block.score_soft_cap ?? null,
    logitSoftCap: block.logit_soft_cap ?? null,
    logitScale: block.logit_scale ?? 1,
    ...(block.score_scale === undefined ? {} : { queryScale: () => block.score_scale as number }),
    ...(block.embedding_scale === undefined ? {} : { embeddingScale: () => block.embedding_scale as number }),
    ...positionTraits(policy),
    ...nameTraits(policy, config),
  });
}

/** How this model's config.json spells what Llama's does. */
export function configKeys({ config_keys: given = {}, block }: InjectionPolicy): ConfigKeys {
  return {
    hiddenSize: given.hidden_size ?? LLAMA_SPELLING.hiddenSize,
    numLayers: given.num_hidden_layers ?? LLAMA_SPELLING.numLayers,
    numHeads: given.num_attention_heads ?? LLAMA_SPELLING.numHeads,
    numKvHeads: given.num_key_value_heads ?? LLAMA_SPELLING.numKvHeads,
    ffnSize: given.intermediate_size ?? LLAMA_SPELLING.ffnSize,
    contextLength: given.max_position_embeddings ?? LLAMA_SPELLING.contextLength,
    activation: given.hidden_act ?? LLAMA_SPELLING.activation,
    normEpsilon: given.norm_eps ?? (block.norm === 'rms' ? LLAMA_SPELLING.normEpsilon : 'layer_norm_eps'),
  };
}

/** config.json with what the policy adds, and the two sizes under the names that windows and rotations are read by. */
function completedConfig(
  policy: InjectionPolicy,
  keys: ConfigKeys,
  given: CheckpointConfig,
): CheckpointConfig {
  const added = policy.config ?? {};
  for (const [key, value] of Object.entries(added)) {
    if (given.has(key) && JSON.stringify(given.raw[key]) !== JSON.stringify(value)) {
      throw given.wrong(key, `${JSON.stringify(value)}, as the policy's config says`);
    }
  }
  const raw: Record<string, unknown> = { ...given.raw, ...added };
  raw.num_hidden_layers = raw[keys.numLayers];
  raw.max_position_embeddings = raw[keys.contextLength];
  return new CheckpointConfig(raw, given.generation, given.folder);
}

function headNorm(word: InjectionPolicy['block']['head_norm']): ModelShape['headNorm'] {
  if (word === undefined) return 'none';
  return ({ per_head: 'per-head', own_scales: 'own-scales', whole: 'whole' } as const)[word];
}

/** Absent: what config.json says, in transformers' words. */
function windows(
  rule: InjectionPolicy['block']['windowed_layers'],
  config: CheckpointConfig,
): (number | null)[] {
  const isOff = rule === 'none' || config.raw.use_sliding_window === false;
  const window = isOff || config.raw.sliding_window === 0 ? null : readWindowSize(config, null);
  if (rule === undefined && config.raw.use_sliding_window === true && !config.has('layer_types')) {
    throw config.wrong('use_sliding_window', 'false, or windowed_layers in an injection policy');
  }
  return readWindows(config, window, (layer) => {
    if (rule === 'even') return layer % 2 === 0;
    return rule === 'odd' ? layer % 2 === 1 : true;
  });
}

function positionTraits({ block, config_keys: keys = {} }: InjectionPolicy): FamilyTraits {
  switch (block.positions) {
    case 'rope_halves':
    case 'rope_neighbours':
      return {
        rope: {
          interleaved: block.positions === 'rope_neighbours',
          ...(keys.rope_theta === undefined ? {} : { thetaKey: keys.rope_theta }),
          ...(keys.partial_rotary_factor === undefined ? {} : { partialKey: keys.partial_rotary_factor }),
        },
      };
    case 'alibi_bloom':
      return { rope: null, alibiSlopes: bloomSlopes };
    case 'alibi_mpt':
      return { rope: null, alibiSlopes: mptSlopes };
    default:
      return { rope: null };
  }
}

function nameTraits(policy: InjectionPolicy, config: CheckpointConfig): FamilyTraits {
  const { block, column_parallel: column, norms, row_parallel: row } = policy;
  const full = (name: string): string => `${policy.layers}.${name}`;
  const orNull = (name: string | null | undefined): string | null => (name ? full(name) : null);
  const linear = (name: string): RolePlace =>
    block.transposed ? ({ stem: full(name), rows: null, transposed: true } satisfies Place) : full(name);
  const fused = column.query_key_value;
  const gateUp = column.gate_up;
  return {
    names: {
      embedding: policy.embedding,
      positions: learnedPositions(policy, config),
      embeddingNorm: norms.embedding ?? null,
      finalNorm: norms.final,
      head: policy.head,
      ignored: (policy.ignored_tensors ?? []).map(patternOf),
    },
    layer: {
      attentionNorm: orNull(norms.attention),
      attentionPostNorm: orNull(norms.attention_post),
      mlpNorm: orNull(norms.mlp),
      mlpPostNorm: orNull(norms.mlp_post),
      queryNorm: orNull(norms.query),
      keyNorm: orNull(norms.key),
      ...(column.query === undefined ? {} : { query: linear(column.query) }),
      ...(column.key === undefined ? {} : { key: linear(column.key) }),
      ...(column.value === undefined ? {} : { value: linear(column.value) }),
      ...(column.gate === undefined ? {} : { gate: linear(column.gate) }),
      ...(column.up === undefined ? {} : { up: linear(column.up) }),
      attentionOut: linear(row.attention_out),
      down: linear(row.down),
    },
    ...(fused === undefined
      ? {}
      : {
          qkv: (sizes: HeadSizes) =>
            fused.layout === 'by_part'
              ? stackedQkv(full(fused.name), sizes, block.transposed ?? false)
              : groupedQkv(full(fused.name), sizes),
        }),
    ...(gateUp === undefined ? {} : { gateUp: (ffnSize: number) => stackedGateUp(full(gateUp), ffnSize) }),
  };
}

/** @returns null: there is no table */
function learnedPositions({ positions }: InjectionPolicy, config: CheckpointConfig): RolePlace | null {
  if (positions === undefined) return null;
  if (positions.first_row === 0) return positions.name;
  const units = config.positiveInteger('max_position_embeddings');
  return {
    stem: positions.name,
    rows: { unitRows: 1, groupUnits: units + positions.first_row, firstUnit: positions.first_row, units },
    transposed: false,
  };
}

/** `*` stands for anything; the schema allows one. */
const patternOf = (pattern: string): RegExp => new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`);

const escaped = (text: string): string => text.replaceAll(/[.-]/g, '\\$&');
