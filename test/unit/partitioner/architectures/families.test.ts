/** partitioner/architectures: config.json of each family → ModelShape, and what is refused. */
import { describe, expect, it } from 'vitest';
import { loadFamilies, readModelShape } from '../../../../partitioner/architectures/registry.js';
import { expectedTensors } from '../../../../partitioner/plan/role-tensors.js';
import { toyConfig } from '../../../fixtures/toy-config.js';

const shapeOf = (changes: Record<string, unknown>) => readModelShape(toyConfig(changes));
const as = (architecture: string, changes: Record<string, unknown> = {}) =>
  shapeOf({ architectures: [architecture], ...changes });

describe('the registry', () => {
  it('finds a family file by being there', async () => {
    const names = (await loadFamilies()).flatMap((family) => family.architectures);
    expect(names).toContain('LlamaForCausalLM');
    expect(names).toContain('GPT2LMHeadModel');
    expect(new Set(names).size).toBe(names.length);
  });

  it('goes by architectures first, and by model_type where there are none', async () => {
    expect((await as('MistralForCausalLM')).windows).toEqual([4096, 4096]);
    const byType = await shapeOf({ architectures: undefined, model_type: 'qwen3' });
    expect(byType.headNorm).toBe('per-head');
  });

  it('refuses an unknown architecture and lists the known ones', async () => {
    const message =
      'architecture MambaForCausalLM is not known; known are ApertusForCausalLM, ArceeForCausalLM, BertFor';
    await expect(as('MambaForCausalLM')).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(as('MambaForCausalLM')).rejects.toThrow(message);
    await expect(shapeOf({ architectures: [], model_type: 'mamba' })).rejects.toThrow('model_type mamba');
    await expect(shapeOf({ architectures: [], model_type: null })).rejects.toThrow('model_type absent');
  });
});

describe('Llama', () => {
  it('reads sizes, with as many KV heads as heads where none are given', async () => {
    expect(await shapeOf({ num_key_value_heads: null })).toMatchObject({
      hiddenSize: 64,
      numLayers: 2,
      numHeads: 8,
      numKvHeads: 8,
      headDim: 8,
      ffnSize: 112,
      vocabSize: 131,
      norm: { kind: 'rms', epsilon: 1e-5, hasWeight: true, hasBias: false, plusOne: false },
      residual: 'sequential',
      queryScales: [1 / Math.sqrt(8), 1 / Math.sqrt(8)],
      contextLength: 128,
      windows: [null, null],
      tiedHead: true,
      headNorm: 'none',
      biases: { qkv: false, attentionOut: false, mlp: false, head: false },
      ropes: [{ rotaryDim: 8, theta: 10_000, scaling: { kind: 'none' }, interleaved: false }],
      layerRopes: [0, 0],
    });
  });

  it('takes head_dim, biases and an untied head from config.json', async () => {
    const shape = await shapeOf({
      head_dim: 32,
      attention_bias: true,
      mlp_bias: true,
      tie_word_embeddings: false,
    });
    expect(shape.headDim).toBe(32);
    expect(shape.biases).toMatchObject({ qkv: true, attentionOut: true, mlp: true });
    const tensors = new Map(expectedTensors(shape).map((tensor) => [tensor.name, tensor.shape]));
    expect(tensors.get('model.layers.1.self_attn.k_proj.bias')).toEqual([128]);
    expect(tensors.get('model.layers.1.self_attn.o_proj.bias')).toEqual([64]);
    expect(tensors.get('model.layers.0.mlp.up_proj.bias')).toEqual([112]);
    expect(tensors.get('lm_head.weight')).toEqual([131, 64]);
  });

  it('reads linear and llama3 rope scaling, in both layouts', async () => {
    const linear = await shapeOf({ rope_theta: 5e5, rope_scaling: { type: 'linear', factor: 4 } });
    expect(linear.ropes[0]).toMatchObject({ theta: 5e5, scaling: { kind: 'linear', factor: 4 } });
    const llama3 = await shapeOf({
      rope_parameters: {
        rope_type: 'llama3',
        rope_theta: 5e5,
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
    });
    expect(llama3.ropes[0]?.scaling).toEqual({
      kind: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContextLength: 8192,
    });
  });
});

describe('Mistral', () => {
  it('has its window on every layer, 4096 where the key is absent, none where it is null', async () => {
    expect((await as('MistralForCausalLM', { sliding_window: 16 })).windows).toEqual([16, 16]);
    expect((await as('MistralForCausalLM')).windows).toEqual([4096, 4096]);
    expect((await as('MistralForCausalLM', { sliding_window: null })).windows).toEqual([null, null]);
  });
});

describe('Qwen2 and Qwen3', () => {
  it('Qwen2 has biases on query, key and value only, whatever attention_bias says', async () => {
    const { biases } = await as('Qwen2ForCausalLM', { attention_bias: false });
    expect(biases).toMatchObject({ qkv: true, attentionOut: false, mlp: false });
  });

  it('the window is for the layers from max_window_layers on, if it is switched on', async () => {
    const windows = { sliding_window: 8, max_window_layers: 1 };
    const on = await as('Qwen2ForCausalLM', { ...windows, use_sliding_window: true });
    expect(on.windows).toEqual([null, 8]);
    expect((await as('Qwen2ForCausalLM', windows)).windows).toEqual([null, null]);
  });

  it('layer_types wins over the rule', async () => {
    const { windows } = await as('Qwen3ForCausalLM', {
      use_sliding_window: true,
      sliding_window: 8,
      layer_types: ['sliding_attention', 'full_attention'],
    });
    expect(windows).toEqual([8, null]);
  });

  it('Qwen3 norms every head, and its heads are 128 wide where config.json does not say', async () => {
    const shape = await as('Qwen3ForCausalLM');
    expect(shape).toMatchObject({ headNorm: 'per-head', headDim: 128 });
    expect(expectedTensors(shape)).toContainEqual({
      name: 'model.layers.0.self_attn.q_norm.weight',
      shape: [128],
    });
  });
});

describe('what would be computed wrongly is refused', () => {
  it.each([
    [{ hidden_act: 'mish' }, 'hidden_act is "mish", expected one of silu, swish, gelu'],
    [{ quantization_config: { bits: 4 } }, 'quantization_config'],
    [{ final_logit_softcapping: 30 }, 'final_logit_softcapping is 30'],
    [{ num_local_experts: 8 }, 'num_local_experts is 8, expected 0 or 1'],
    [{ partial_rotary_factor: 0.4 }, "partial_rotary_factor is 0.4, expected an even part of the head's 8"],
    [
      { rope_scaling: { rope_type: 'proportional', factor: 4 } },
      'rope type "proportional" is not known, expected one of default',
    ],
    [{ num_key_value_heads: 3 }, 'expected a divisor of num_attention_heads (8)'],
    [{ head_dim: 7 }, 'head_dim is 7, expected an even number'],
    [{ hidden_size: 60 }, 'expected a multiple of 2 · num_attention_heads (16)'],
    [{ num_hidden_layers: 5000 }, 'num_hidden_layers is 5000, expected at most 1024'],
    [{ vocab_size: 1e9 }, 'expected at most'],
    [{ intermediate_size: undefined }, 'intermediate_size is missing'],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, 'sliding_window'],
    [{ layer_types: ['full_attention'] }, 'expected 2 entries'],
    [{ layer_types: ['full_attention', 'linear_attention'] }, '"full_attention" or "sliding_attention"'],
  ])('%j', async (changes, message) => {
    await expect(shapeOf(changes)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(shapeOf(changes)).rejects.toThrow(message);
  });

  it('neutral values of the same keys are no reason', async () => {
    await shapeOf({
      hidden_act: 'silu',
      num_local_experts: 1,
      logits_scaling: 1,
      embedding_multiplier: null,
    });
  });
});
