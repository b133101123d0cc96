/**
 * The automatic policy over every golden, its architecture renamed to one that nobody knows: it gives the golden's logits and
 * tokens, or it refuses and says why; where two models differ in what no file shows, it says what it assumed. (Under their own
 * names these are families: architectures.test.ts.)
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planPartition } from '../../../partitioner/partition.js';
import { GOLDEN_FAMILIES } from '../../support/golden-families.js';
import { runGolden } from '../../support/golden-run.js';
import { UNKNOWN, writeRenamedModel } from '../../support/renamed-model.js';

/** Llama's block in config and names: these are recognised. */
const RECOGNISED = [
  'arcee',
  'jais2',
  'llama',
  'llama-linear',
  'llama-nine-heads',
  'qwen2',
  'qwen3',
  'stablelm',
];

/** Llama's block in config and names, and another in what no file shows: recognised, and wrong where the assumption is not asked for. */
const ASSUMED_WRONGLY = ['ernie4-5', 'helium'];

/** Each of the others must be refused, by a sentence with these words. */
const REFUSED: Readonly<Record<string, string>> = {
  apertus: 'two norms before attention and before the MLP',
  awq: 'no query, key and value of their own',
  'compressed-float8': 'no query, key and value of their own',
  'compressed-int4': 'no query, key and value of their own',
  'compressed-int8': 'no query, key and value of their own',
  'float8-blocks': 'no query, key and value of their own',
  'opt-350m': 'config.json has none of rms_norm_eps',
  phimoe: 'could each be the gate',
  'qwen3-vl-moe': 'only one stack can be told',
  'gpt-oss': 'no MLP of up and down in a layer',
  'gpt-oss-mxfp4': 'no MLP of up and down in a layer',
  glm: 'no MLP of up and down',
  glm4: 'no MLP of up and down',
  olmo3: 'two norms before attention and before the MLP',
  exaone4: 'two norms before attention and before the MLP',
  'exaone4-plain': 'two norms before attention and before the MLP',
  cohere2: 'two norms before attention and before the MLP',
  'seed-oss': 'attention_out_bias is false',
  nemotron: 'config.json has none of rms_norm_eps',
  hunyuan: 'eod_token_id is 3',
  minicpm: 'scale_emb is 2.5',
  ministral3: 'llama_4_scaling_beta is not known',
  'gemma3-multimodal': 'only one stack can be told',
  mistral3: 'only one stack can be told',
  'qwen2-vl': 'only one stack can be told',
  'qwen3-vl': 'only one stack can be told',
  llava: 'only one stack can be told',
  olmoe: 'could each be the gate',
  'granite-moe': 'no MLP of up and down',
  'glm4-moe': 'layers must be alike',
  'deepseek-v2': 'layers must be alike',
  'deepseek-v2-lite': 'no query, key and value of their own',
  'deepseek-v3': 'layers must be alike',
  moonlight: 'layers must be alike',
  'glm4-moe-lite': 'layers must be alike',
  llama4: 'layers must be alike',
  'llama4-multimodal': 'only one stack can be told',
  'kimi-k25': 'only one stack can be told',
  mistral4: 'layers must be alike',
  minicpm3: 'no query, key and value of their own',
  youtu: 'no query, key and value of their own',
  'falcon-rw': 'no query, key and value of their own',
  dots1: 'could each be the gate',
  'ernie4-5-moe': 'layers must be alike',
  'hunyuan-moe': 'could each be the gate',
  gptq: 'no query, key and value of their own',
  'gptq-act-order': 'no query, key and value of their own',
  bloom: 'config.json has none of intermediate_size',
  codegen: 'config.json has none of intermediate_size',
  cwm: 'sliding_window is 16, and neither',
  mistral: 'sliding_window is 16, and neither',
  starcoder2: 'sliding_window is 16, and neither',
  cohere: 'two norms before attention and before the MLP',
  'cohere-plus': 'two norms before attention and before the MLP',
  'falcon-11b': 'no query, key and value of their own',
  'falcon-40b': 'no query, key and value of their own',
  'falcon-7b': 'no query, key and value of their own',
  gemma: 'a gate with hidden_act "gelu"',
  gemma2: 'config.json has none of hidden_act',
  gemma3: 'config.json has none of hidden_act',
  'gpt-bigcode': 'no query, key and value of their own',
  'gpt-bigcode-multi-head': 'config.json has none of intermediate_size',
  'gpt-neo': 'config.json has none of intermediate_size',
  'gpt-neox': 'no query, key and value of their own',
  'gpt-neox-sequential': 'no query, key and value of their own',
  gpt2: 'config.json has none of intermediate_size',
  'gpt2-inverse-layer': 'no query, key and value of their own',
  gptj: 'config.json has none of intermediate_size',
  granite: 'attention_multiplier is 0.2',
  internlm2: 'no query, key and value of their own',
  mixtral: 'could each be the gate',
  mpt: 'config.json has none of',
  olmo: 'config.json has none of rms_norm_eps',
  olmo2: 'two norms before attention and before the MLP',
  opt: 'config.json has none of rms_norm_eps',
  phi: 'two norms before attention and before the MLP',
  phi3: 'no query, key and value of their own',
  'phi3-longrope': 'no query, key and value of their own',
  qwen: 'config.json has max_position_embeddings and seq_length',
  'qwen2-moe': 'could each be the gate',
  'qwen3-moe': 'layers must be alike',
  smollm3: 'no_rope_layer_interval is 4',
  'smollm3-yarn': 'no_rope_layer_interval is 4',
  'stablelm-12b': 'two norms before attention and before the MLP',
};

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'policy-automatic-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

let folders = 0;
const newFolder = (): string => path.join(scratch, `model-${++folders}`);

const planned = (folder: string) => planPartition({ folder, tp: 1, dtype: 'fp32' });

describe('recognised', () => {
  it.each(RECOGNISED)(
    '%s under an unknown architecture gives its golden at tp 1, 2 and 4',
    async (golden) => {
      const modelFolder = writeRenamedModel({ golden, folder: newFolder() });
      for (const tp of [1, 2, 4]) {
        const store = path.join(scratch, 'store');
        const { deviation, tokensEqual } = await runGolden({ name: golden, modelFolder, store, tp });
        expect([tp, tokensEqual, deviation < 1e-5]).toEqual([tp, true, true]);
      }
    },
  );

  it('says what it recognised and what it had to assume', async () => {
    const folder = writeRenamedModel({ golden: 'qwen3', folder: newFolder() });
    const { report } = await planned(folder);
    expect(report.kind).toBe('automatic');
    expect(report.recognised).toContain('layers: model.layers.{layer}, 2 of them');
    expect(report.recognised).toContain(
      'norms: attention input_layernorm, MLP post_attention_layernorm, per head self_attn.q_norm, self_attn.k_norm',
    );
    expect(report.recognised).toContain('biases: none');
    expect(report.recognised).toContain('head: tied to the embedding');
    expect(report.assumed.join()).toContain('rotated in halves');
  });

  it.each(ASSUMED_WRONGLY)(
    '%s, which rotates otherwise, is taken for Llama under a name that nobody knows: with the assumption, and right where it is said',
    async (golden) => {
      const modelFolder = writeRenamedModel({ golden, folder: newFolder() });
      const { report } = await planned(modelFolder);
      expect(report.assumed.join()).toContain('rotated in halves, not in neighbouring pairs');
      const block = { ...report.policy?.block, positions: 'rope_neighbours' };
      writeFileSync(
        path.join(modelFolder, 'injection_policy.json'),
        JSON.stringify({ ...report.policy, block }),
      );
      const store = path.join(scratch, 'store');
      const { deviation, tokensEqual } = await runGolden({ name: golden, modelFolder, store, tp: 2 });
      expect([tokensEqual, deviation < 1e-5]).toEqual([true, true]);
    },
  );

  it('what it found is an injection policy: written to the file it is the same model', async () => {
    const folder = writeRenamedModel({ golden: 'stablelm', folder: newFolder() });
    const { report } = await planned(folder);
    const explicit = writeRenamedModel({ golden: 'stablelm', folder: newFolder() });
    writeFileSync(path.join(explicit, 'injection_policy.json'), JSON.stringify(report.policy));
    const again = await planned(explicit);
    expect(again.report.kind).toBe('injection');
    expect(again.plan.shape).toEqual((await planned(folder)).plan.shape);
  });

  it('a known family stays one', async () => {
    const config = { architectures: ['LlamaForCausalLM'], model_type: 'llama' };
    const folder = writeRenamedModel({ golden: 'llama', folder: newFolder(), config });
    expect((await planned(folder)).report.kind).toBe('family');
  });
});

describe('refused', () => {
  it('no golden is left out of this file', () => {
    const known = [...RECOGNISED, ...ASSUMED_WRONGLY, ...Object.keys(REFUSED)];
    expect(GOLDEN_FAMILIES.filter((golden) => !known.includes(golden))).toEqual([]);
  });

  it.each(Object.entries(REFUSED))('%s: %s', async (golden, reason) => {
    const folder = writeRenamedModel({ golden, folder: newFolder() });
    await expect(planned(folder)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(planned(folder)).rejects.toThrow(reason);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['a key that nobody knows', { use_hyper_attention: 3 }, 'use_hyper_attention is 3: nobody here knows'],
    ['a key that changes the mathematics', { residual_multiplier: 0.5 }, 'residual_multiplier is 0.5'],
    [
      'rotary settings that nobody knows',
      { rope_scaling: { rope_type: 'default', mrope_section: [1] } },
      'mrope_section',
    ],
    ['no base of the rotation', { rope_theta: undefined }, 'rope_theta is missing'],
    ['no epsilon', { rms_norm_eps: undefined }, 'config.json has none of rms_norm_eps'],
    ['two epsilons', { layer_norm_eps: 1e-5 }, 'config.json has rms_norm_eps and layer_norm_eps'],
    ['an activation that nobody knows', { hidden_act: 'swiglu' }, 'a gate with hidden_act "swiglu"'],
    ['more layers than tensors', { num_hidden_layers: 3 }, 'num_hidden_layers is 3, expected 2'],
    [
      'windows on upper layers',
      { use_sliding_window: true, sliding_window: 8 },
      'use_sliding_window is true',
    ],
  ])('%s', async (_, config, reason) => {
    const folder = writeRenamedModel({ golden: 'qwen3', folder: newFolder(), config });
    await expect(planned(folder)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(planned(folder)).rejects.toThrow(reason);
  });

  it.each<[string, Record<string, number[]>, string]>([
    [
      'in every layer',
      { 'model.layers.0.self_attn.sinks': [8], 'model.layers.1.self_attn.sinks': [8] },
      'model.layers.0.self_attn.sinks has no place',
    ],
    [
      'in one layer',
      { 'model.layers.1.mlp.extra.weight': [4] },
      'model.layers.1.mlp.extra.weight has no like in layer 0',
    ],
    ['outside the layers', { 'model.extra.weight': [4] }, 'model.extra.weight has no place'],
    ['in a second stack of layers', { 'vision.blocks.0.fc.weight': [4, 4] }, 'only one stack can be told'],
    ['that could be a role too', { 'model.wte.weight': [4, 4] }, 'could each be the role'],
  ])('a tensor more %s', async (_, extra, reason) => {
    const modelFolder = writeRenamedModel({ golden: 'qwen3', folder: newFolder(), extra });
    const run = runGolden({ name: 'qwen3', modelFolder, store: path.join(scratch, 'store'), tp: 1 });
    await expect(run).rejects.toThrow(reason);
  });

  it('config.json alone is not enough', async () => {
    const folder = writeRenamedModel({ golden: 'llama', folder: newFolder() });
    rmSync(path.join(folder, 'model.safetensors'));
    await expect(planned(folder)).rejects.toThrow(
      `architecture ${UNKNOWN.architectures[0]} is not known; known are`,
    );
  });
});
