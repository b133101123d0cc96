/**
 * Random sizes of every family: split over as many ranks as its heads allow, a model gives the logits, or the vector of a text, of
 * the unsplit one.
 *
 * The goldens have few sizes; here head counts, groups, widths and vocabularies are odd, and degrees 3, 5 and 6 occur.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readModelShape } from '../../partitioner/architectures/registry.js';
import { readModelConfig } from '../../partitioner/checkpoint/config-file.js';
import { partition } from '../../partitioner/partition.js';
import { possibleDegrees } from '../../partitioner/plan/degrees.js';
import { expectedTensors } from '../../partitioner/plan/role-tensors.js';
import { FP32_FORMAT } from '../../partitioner/quantise/weight-format.js';
import { verifyShards } from '../../partitioner/verify/verify.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { type SeededRandom, seededRandom, testSeed } from '../fixtures/seeded-random.js';
import { goldenFolder } from '../support/golden.js';
import { GOLDEN_ENCODERS } from '../support/golden-encoders.js';
import { GOLDEN_FAMILIES, relativeDeviation } from '../support/golden-families.js';
import { createInProcessGroup } from '../support/in-process-group.js';

const TOLERANCE = 2e-5;
const MAX_RANKS = 6;
const PROMPT_TOKENS = 21;

type Config = Record<string, unknown>;

/** The golden's config.json with other sizes, where it has the keys. */
function drawSizes(config: Config, random: SeededRandom): Config {
  const changed = { ...config };
  const set = (value: number, ...keys: string[]): void => {
    for (const key of keys) if (typeof config[key] === 'number') changed[key] = value;
  };
  // CodeGen keeps heads in four parts.
  const heads = config.model_type === 'codegen' ? random.pick([4, 8]) : random.pick([3, 4, 5, 6, 9, 10, 12]);
  // One latent for all heads is written as keys of each.
  const isLatent = typeof config.kv_lora_rank === 'number';
  const kvHeads = isLatent ? heads : random.pick([1, 2, 3, 5, heads].filter((count) => heads % count === 0));
  // A quarter of a head must be even; LongRoPE's factors are for 16 dimensions.
  const isPartial = /partial_rotary|rotary_pct/.test(JSON.stringify(config));
  const headDim = config.original_max_position_embeddings
    ? 16
    : random.pick(isPartial ? [8, 16] : [8, 12, 16, 20]);
  set(heads, 'num_attention_heads', 'n_head', 'n_heads', 'num_heads');
  set(kvHeads, 'num_key_value_heads', 'num_kv_heads');
  if (config.model_type === 'qwen') changed.num_key_value_heads = undefined;
  const isFree = typeof config.head_dim === 'number';
  const hidden = isFree ? random.integer(10, 40) * 2 : heads * headDim;
  set(headDim, 'head_dim', 'kv_channels');
  set(hidden, 'hidden_size', 'n_embd', 'd_model', 'dim', 'word_embed_proj_dim', 'pooler_hidden_size');
  set(2 * random.integer(15, 60), 'intermediate_size', 'n_inner', 'ffn_dim', 'ffn_hidden_size', 'hidden_dim');
  set(random.integer(7, 50), 'moe_intermediate_size');
  // Of 32 a head's matrices are panels.
  set(random.pick([32, random.integer(7, 50)]), 'kv_lora_rank');
  set(random.pick([32, random.integer(7, 50)]), 'v_head_dim');
  set(random.integer(7, 50), 'qk_nope_head_dim');
  set(random.integer(7, 50), 'shared_expert_intermediate_size');
  set(random.integer(100, 170), 'vocab_size');
  set(random.integer(3, 9), 'num_experts', 'num_local_experts');
  const rope = config.rope_parameters as Config | undefined;
  if (isLatent && typeof rope?.partial_rotary_factor === 'number') {
    const rotated = config.qk_rope_head_dim as number;
    const head = rotated + (changed.qk_nope_head_dim as number);
    Object.assign(changed, { head_dim: head, qk_head_dim: head });
    // As Mistral 4 says which part of a head is turned.
    changed.rope_parameters = { ...rope, partial_rotary_factor: rotated / head };
  }
  if (typeof config.rotary_dim === 'number') changed.rotary_dim = random.pick([2, 4, 8]);
  if (typeof config.rotary_pct === 'number' && config.rotary_pct < 1) changed.rotary_pct = 0.5;
  return changed;
}

/** Weights that matter: norms near 1, the others so large that attention is peaked. */
async function writeCheckpoint(folder: string, random: SeededRandom): Promise<number[]> {
  const shape = await readModelShape(readModelConfig(folder));
  const header: Record<string, unknown> = {};
  const pieces: Buffer[] = [];
  let offset = 0;
  for (const { name, shape: size } of expectedTensors(shape)) {
    const count = size.reduce((product, axis) => product * axis, 1);
    const isNorm = /norm|ln_/i.test(name) && name.endsWith('.weight');
    const deviation = size.length > 1 && !isNorm ? 1.5 / Math.sqrt(Math.min(...size)) : 0.3;
    const middle = isNorm && !shape.norm.plusOne ? 1 : 0;
    const values = Float32Array.from({ length: count }, () => middle + random.normal() * deviation);
    header[name] = { dtype: 'F32', shape: size, data_offsets: [offset, offset + 4 * count] };
    pieces.push(Buffer.from(values.buffer));
    offset += 4 * count;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path.join(folder, 'model.safetensors'), Buffer.concat([length, text, ...pieces]));
  return possibleDegrees(shape, FP32_FORMAT).filter((degree) => degree <= MAX_RANKS);
}

/** Logits after the prompt, and after one token more; or the vector of the prompt. */
async function logitsOf(
  folder: string,
  store: string,
  tp: number,
  ids: readonly number[],
): Promise<Float32Array[]> {
  const { manifest, shardFolder } = await partition({
    folder,
    outStore: store,
    tp,
    dtype: 'fp32',
  });
  await verifyShards({ folder, shardFolder });
  const group = await createInProcessGroup(shardFolder);
  const open = {
    slot: 0,
    sequence: 1,
    promptIds: [...ids],
    maxNewTokens: 4,
    endIds: [],
    sampling: GREEDY_SAMPLING,
  };
  const all: Float32Array[] = [];
  const isEncoder = manifest.model.embedding !== undefined;
  for (const [index, tokens] of (isEncoder ? [ids.length] : [ids.length - 5, 5, 1]).entries()) {
    const rows = [{ slot: 0, sequence: 1, tokens }];
    const [result] = await group.step({
      step: index + 1,
      closeSlots: [],
      opens: index === 0 ? [open] : [],
      rows,
    });
    if (isEncoder) all.push(Float32Array.from(result?.rows[0]?.vector ?? []));
    else if (index > 0) all.push(group.logits(0).slice());
  }
  return all;
}

export const FAMILIES: readonly string[] = [...GOLDEN_FAMILIES, ...GOLDEN_ENCODERS];

/** @param families of FAMILIES */
export function familiesAtDegrees(families: readonly string[]): void {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(path.join(tmpdir(), 'families-degrees-'));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  it.each(families)('%s of other sizes is the same model at every degree', async (family) => {
    const random = seededRandom(testSeed + FAMILIES.indexOf(family));
    const folder = path.join(scratch, family);
    mkdirSync(folder);
    const golden = JSON.parse(readFileSync(path.join(goldenFolder(family), 'config.json'), 'utf8')) as Config;
    const config = drawSizes(golden, random);
    writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config));
    const degrees = await writeCheckpoint(folder, random);
    const ids = Array.from({ length: PROMPT_TOKENS }, () => random.integer(0, 99));
    const store = path.join(scratch, 'store');
    const whole = await logitsOf(folder, store, 1, ids);
    for (const tp of degrees.slice(1)) {
      const split = await logitsOf(folder, store, tp, ids);
      const deviations = split.map((logits, index) => relativeDeviation(logits, whole[index]!));
      expect([tp, JSON.stringify(config), Math.max(...deviations) <= TOLERANCE]).toEqual([
        tp,
        JSON.stringify(config),
        true,
      ]);
    }
  });
}
