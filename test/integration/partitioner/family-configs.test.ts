/** What a family cannot compute is refused by key and value, never computed as something else. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readModelShape } from '../../../partitioner/architectures/registry.js';
import { CheckpointConfig } from '../../../partitioner/checkpoint/config-file.js';
import { cachedHeadDim, type ModelShape, sinkColumn } from '../../../partitioner/plan/model-shape.js';
import { goldenFolder } from '../../support/golden.js';

/** A golden's config.json with some keys changed. */
function shapeOf(golden: string, changes: Record<string, unknown> = {}): Promise<ModelShape> {
  const file = path.join(goldenFolder(golden), 'config.json');
  const raw = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  return readModelShape(new CheckpointConfig({ ...raw, ...changes }, null, golden));
}

describe('refused', () => {
  it.each<[string, Record<string, unknown>, string]>([
    ['falcon-7b', { alibi: true }, 'alibi is true, expected false'],
    ['falcon-40b', { parallel_attn: false }, 'parallel_attn is false, expected true'],
    ['falcon-rw', { multi_query: true }, 'alibi is true, expected false'],
    ['opt', { enable_bias: false }, 'enable_bias is false'],
    ['opt', { layer_norm_elementwise_affine: false }, 'layer_norm_elementwise_affine is false'],
    ['mpt', { attn_config: { alibi: false } }, 'alibi is false, expected true'],
    ['mpt', { attn_config: { qk_ln: true } }, 'qk_ln is true'],
    ['mpt', { attn_config: { prefix_lm: true } }, 'prefix_lm is true'],
    ['mpt', { no_bias: false }, 'no_bias is false, expected true'],
    ['mpt', { expansion_ratio: 2 }, 'expansion_ratio is 2, expected 4'],
    ['mpt', { logit_scale: 0.5 }, 'logit_scale is 0.5, expected 1'],
    ['bloom', { apply_residual_connection_post_layernorm: true }, 'apply_residual_connection_post_layernorm'],
    ['phi', { qk_layernorm: true }, 'qk_layernorm is true, expected false'],
    [
      'phi3-longrope',
      { original_max_position_embeddings: 40, rope_scaling: { type: 'longrope' } },
      'short_factor',
    ],
    ['gptj', { rotary_dim: 5 }, 'rotary_dim is 5, expected an even number'],
    ['codegen', { n_head: 6 }, 'n_head is 6, expected a multiple of 4'],
    ['gpt-neo', { attention_types: [[['global', 'banded'], 1]] }, 'attention_types'],
    ['smollm3', { no_rope_layers: [1] }, '0 or 1 for each of 2 layers'],
    ['gemma3', { use_bidirectional_attention: true }, 'use_bidirectional_attention is true'],
    ['qwen2-moe', { layer_types: ['sliding_attention', 'full_attention'] }, 'layer_types has sliding layers'],
    ['cwm', { rope_scaling: null }, 'rope_scaling is null, expected an object'],
    ['qwen2-moe', { use_sliding_window: true }, 'use_sliding_window is true'],
    [
      'mixtral',
      { num_experts_per_tok: 9 },
      'num_experts_per_tok is 9, expected at most num_local_experts (8)',
    ],
    ['gpt2', { add_cross_attention: true }, 'add_cross_attention is true, expected false'],
    ['internlm2', { bias: true }, 'bias is true, expected false'],
    ['gpt-oss', { swiglu_alpha: 1.5 }, 'swiglu_alpha is 1.5, expected 1.702'],
    ['gpt-oss', { hidden_act: 'gelu' }, 'hidden_act is "gelu", expected "silu"'],
    ['gpt-oss', { rope_parameters: null }, 'rope_scaling is null, expected an object'],
    ['granite', { logit_scale: 2 }, 'logit_scale is 2'],
    ['stablelm', { hidden_act: 'swiglu' }, 'hidden_act is "swiglu", expected one of silu'],
  ])('%s with %j', async (golden, changes, message) => {
    await expect(shapeOf(golden, changes)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(shapeOf(golden, changes)).rejects.toThrow(message);
  });
});

describe('read', () => {
  it('dynamic scaling changes nothing within max_position_embeddings, which stays the limit', async () => {
    const shape = await shapeOf('internlm2', { rope_scaling: { type: 'dynamic', factor: 2 } });
    expect(shape.ropes[0]?.scaling).toEqual({ kind: 'none' });
    expect(shape.contextLength).toBe(256);
  });

  it('yarn has its range of pairs and its factor of cosines and sines', async () => {
    const { ropes } = await shapeOf('smollm3-yarn');
    expect(ropes[0]?.scaling).toMatchObject({ kind: 'yarn', factor: 8, low: 0 });
    expect(ropes[0]?.scaling).toHaveProperty('attentionFactor', 0.1 * Math.log(8) + 1);
  });

  it('Gemma 3 has one rotation for layers with a window and one for the others', async () => {
    const { layerRopes, ropes, windows } = await shapeOf('gemma3');
    expect(windows).toEqual([16, null]);
    expect(layerRopes).toEqual([1, 0]);
    expect(ropes.map(({ theta }) => theta)).toEqual([100_000, 1000]);
  });

  it('Gemma 3 has no cap of scores, whatever config.json says: transformers reads none', async () => {
    expect((await shapeOf('gemma3', { attn_logit_softcapping: 5 })).attentionSoftCap).toBeNull();
  });

  it('GPT-OSS has a window on every other layer, and one column more in its cache for the sinks', async () => {
    const shape = await shapeOf('gpt-oss', { layer_types: null });
    expect(shape.windows).toEqual([16, null]);
    expect(sinkColumn(shape)).toBe(16);
    expect(cachedHeadDim(shape)).toBe(17);
  });

  it('GPT-2 divides scores by the layer where it is told to', async () => {
    const { queryScales } = await shapeOf('gpt2-inverse-layer');
    expect(queryScales).toEqual([1 / Math.sqrt(8), 1 / Math.sqrt(8) / 2]);
  });

  it('ALiBi of heads that are no power of two', async () => {
    const bloom = (await shapeOf('bloom')).alibiSlopes;
    expect(bloom?.slice(0, 2)).toEqual([2 ** -1, 2 ** -2]);
    expect(bloom?.slice(8)).toEqual([0.5, 1.5, 2.5, 3.5].map((power) => 2 ** -power));
    const mpt = (await shapeOf('mpt')).alibiSlopes;
    expect(mpt?.slice(0, 2)).toEqual([2 ** -1, 2 ** -2]);
    expect(mpt?.slice(8)).toEqual([0.5, 1.5, 2.5, 3.5].map((power) => 2 ** -power));
  });
});
