/**
 * Damaged checkpoints: the fuzz suite, the bugs that it has found, and folders that hold something else.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { fuzzCheckpoints } from '../../suites/checkpoint-fuzz.suite.js';
import { goldenFolder } from '../../support/golden.js';
import { writeRenamedModel } from '../../support/renamed-model.js';

const CASES = 5;

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'damaged-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

describe('fuzz', () => fuzzCheckpoints(CASES));

/** A word that every object of JavaScript answers to was taken for one of a table. */
describe('a word that every object answers to', () => {
  const change = (file: string, key: string, value: unknown): void => {
    const json = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    writeFileSync(file, JSON.stringify({ ...json, [key]: value }));
  };

  it.each([
    ['config.json', 'hidden_act', 'constructor', 'hidden_act is "constructor", expected one of silu'],
    [
      '2_Dense/config.json',
      'activation_function',
      'torch.constructor',
      'is "torch.constructor", expected one of',
    ],
    [
      '1_Pooling/config.json',
      'pooling_mode',
      'toString',
      'pooling_mode is "toString", expected one or several of',
    ],
  ])('%s: %s %s', async (file, key, value, message) => {
    const folder = mkdtempSync(path.join(scratch, 'word-'));
    cpSync(goldenFolder('encoder-bert-dense'), folder, { recursive: true });
    change(path.join(folder, file), key, value);
    const work = partition({ folder, outStore: path.join(scratch, 'store'), tp: 1 });
    await expect(work).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(work).rejects.toThrow(message);
  });

  it('as a key that an unknown model may have', async () => {
    const folder = mkdtempSync(path.join(scratch, 'key-'));
    writeRenamedModel({ golden: 'llama', folder, config: { constructor: 5 } });
    const work = partition({ folder, outStore: path.join(scratch, 'store'), tp: 1 });
    await expect(work).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(work).rejects.toThrow('constructor');
  });
});

it.each([
  [
    'pytorch_model.bin',
    'only a pickled checkpoint (pytorch_model*.bin) and no safetensors file: a pickle can run code',
  ],
  ['pytorch_model-00001-of-00002.bin', 'If you trust it: python3 -c '],
  [
    'consolidated.00.pth',
    'of pickled files "consolidated.00.pth", which is not Hugging Face\'s pytorch_model.bin',
  ],
  ['model.Q4_0.gguf', 'model.Q4_0.gguf: does not begin with "GGUF"'],
  ['adapter_config.json', 'an adapter (adapter_config.json) and no model: merge it'],
  ['vocab.txt', 'no model.safetensors and no model.safetensors.index.json'],
])('a folder with %s and no weights of ours: %s', async (name, message) => {
  const folder = mkdtempSync(path.join(scratch, 'other-'));
  cpSync(path.join(goldenFolder('qwen2'), 'config.json'), path.join(folder, 'config.json'));
  writeFileSync(path.join(folder, name), '{}');
  const work = partition({ folder, outStore: path.join(scratch, 'other-store'), tp: 1, dtype: 'fp32' });
  await expect(work).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
  await expect(work).rejects.toThrow(message);
});
