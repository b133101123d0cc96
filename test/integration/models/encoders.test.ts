/**
 * The tiny checkpoint of every encoder, of decoders whose hidden states are wanted and of classifiers (test/golden/encoder_goldens.py)
 * against sentence-transformers, or transformers' own class, in float32: ids of its texts, cut where it cuts them; vectors or scores,
 * split over 1, 2 and 4 ranks, one text a step and all texts in one.
 */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition, planPartition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { PromptEncoder } from '../../../server/engines/llm/prompt-encoder.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { readManifest } from '../../../shard-worker/read-manifest.js';
import { goldenFolder } from '../../support/golden.js';
import { GOLDEN_ENCODERS, readEncoderGolden } from '../../support/golden-encoders.js';
import { relativeDeviation } from '../../support/golden-families.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { textVectors } from '../../support/text-vectors.js';

const DEGREES = [1, 2, 4];

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'golden-encoders-'));
});
afterAll(() => rmSync(store, { recursive: true }));

const shardsOf = (name: string, tp: number) =>
  partition({ folder: goldenFolder(name), outStore: store, tp, dtype: 'fp32' });

/** In this process: a process for each encoder takes longer than all else, and has the same ids (text/tokenizer-process.test.ts). */
function tokenizerOf(name: string) {
  const facts = Tokenizer.read(goldenFolder(name));
  const encode = async (text: string, addSpecialTokens: boolean) => facts.encode(text, { addSpecialTokens });
  return { facts, encode, close: async () => {} };
}

describe.each(GOLDEN_ENCODERS)('%s', (name) => {
  const golden = readEncoderGolden(name);

  it('makes the ids of a text as sentence-transformers does, cut at the same length', async () => {
    const { manifest } = await shardsOf(name, 1);
    const { embedding, vocabSize } = manifest.model;
    const encoder = new PromptEncoder({
      ...{ tokenizer: tokenizerOf(name), chatRenderer: null, vocabSize, embedding },
    });
    const cutAt = embedding?.textTokens ?? null;
    for (const { ids, pair, secondTextAt, text } of golden.texts) {
      if (pair === undefined) expect(await encoder.encode({ kind: 'text', text }, { cutAt })).toEqual(ids);
      else {
        const { ids: both, secondTextAt: at } = await encoder.encodePair(text, pair, { cutAt });
        expect(both).toEqual(ids);
        if (secondTextAt !== undefined) expect(at).toBe(secondTextAt);
      }
    }
    for (const { cutAt, ids, pair, text } of golden.cuts ?? [])
      expect((await encoder.encodePair(text, pair, { cutAt })).ids).toEqual(ids);
    await encoder.close();
  });

  it.each(DEGREES)('gives its vectors at tp %i, one text a step and all in one', async (tp) => {
    const { shardFolder } = await shardsOf(name, tp);
    const run = textVectors(await createInProcessGroup(shardFolder, { maxSlots: golden.texts.length }));
    const alone: number[][] = [];
    for (const text of golden.texts) alone.push(...(await run([text])));
    const together = await run(golden.texts);
    let largest = 0;
    golden.texts.forEach(({ vector }, index) => {
      for (const seen of [alone[index], together[index]]) {
        largest = Math.max(
          largest,
          relativeDeviation(Float32Array.from(seen ?? []), Float32Array.from(vector)),
        );
      }
    });
    expect(largest).toBeLessThanOrEqual(golden.tolerance);
    if (process.env.GOLDEN_REPORT) console.log(`${name} tp ${tp}: ${largest.toExponential(1)}`);
    const { tensors } = await verifyShards({ folder: goldenFolder(name), shardFolder });
    expect(tensors).toBeGreaterThan(0);
  });
});

it('an encoder keeps no keys and values', async () => {
  const { shardFolder, manifest } = await shardsOf('encoder-bert', 2);
  expect(manifest.attend.keysIn).toBe('step');
  const group = await createInProcessGroup(shardFolder);
  await textVectors(group)([{ ids: [2, 7, 3] }]);
  expect(group.runners.map((runner) => runner.inspect(1).kvTouchedBytes)).toEqual([0, 0]);
  const { plan } = await planPartition({ folder: goldenFolder('encoder-bert'), tp: 2 });
  expect(plan.kvBytesPerTokenPerRank).toBe(0);
});

it('says what a vector is made of in the manifest', async () => {
  const { shardFolder } = await shardsOf('encoder-bert-dense', 1);
  expect((await readManifest(shardFolder)).model.embedding).toEqual({
    ...{ dimensions: 24, textTokens: 20, normalised: true, lowerCase: false, prefix: '' },
  });
});

describe('sentence-transformers’ files that say something else', () => {
  const changed = async (file: string, change: (value: never) => unknown): Promise<unknown> => {
    const folder = mkdtempSync(path.join(store, 'changed-'));
    cpSync(goldenFolder('encoder-bert-dense'), folder, { recursive: true });
    const at = path.join(folder, file);
    const { readFileSync } = await import('node:fs');
    writeFileSync(at, JSON.stringify(change(JSON.parse(readFileSync(at, 'utf8')) as never)));
    return partition({ folder, outStore: store, tp: 1, dtype: 'fp32' });
  };
  const type = (kind: string) => `sentence_transformers.models.${kind}`;
  type Json = Record<string, unknown>;

  it.each<[string, string, (value: never) => unknown, string]>([
    [
      'a module that is not known',
      'modules.json',
      (list: Json[]) => list.map((entry, at) => (at === 2 ? { ...entry, type: type('LSTM') } : entry)),
      'LSTM',
    ],
    ['no pooling', 'modules.json', (list: Json[]) => list.slice(0, 1), 'second module must be a Pooling'],
    [
      'a transformer in another folder',
      'modules.json',
      (list: Json[]) => [{ ...list[0], path: '../elsewhere' }, ...list.slice(1)],
      'first module must be a Transformer',
    ],
    [
      'a way out of the folder',
      'modules.json',
      (list: Json[]) => list.map((entry, at) => (at === 1 ? { ...entry, path: '../1_Pooling' } : entry)),
      'the name of a folder',
    ],
    ['an object for a list', 'modules.json', (list: Json[]) => list[0], 'not a JSON list'],
    [
      'a pooling that is not known',
      '1_Pooling/config.json',
      (config: Json) => ({ ...config, pooling_mode_median_tokens: true }),
      'pooling_mode_median_tokens is true',
    ],
    [
      'a prompt left out of the pooling',
      '1_Pooling/config.json',
      (config: Json) => ({ ...config, include_prompt: false }),
      'include_prompt is false',
    ],
    [
      'another hidden size',
      '1_Pooling/config.json',
      (config: Json) => ({ ...config, word_embedding_dimension: 65 }),
      'word_embedding_dimension is 65',
    ],
    [
      'a dense layer that does not fit',
      '2_Dense/config.json',
      (config: Json) => ({ ...config, in_features: 65 }),
      'in_features is 65, expected 64',
    ],
    [
      'an activation that is not known',
      '2_Dense/config.json',
      (config: Json) => ({ ...config, activation_function: 'torch.nn.modules.activation.Softsign' }),
      'activation_function',
    ],
    ['a decoder', 'config.json', (config: Json) => ({ ...config, is_decoder: true }), 'is_decoder is true'],
    [
      'relative positions',
      'config.json',
      (config: Json) => ({ ...config, position_embedding_type: 'relative_key' }),
      'position_embedding_type is "relative_key"',
    ],
    [
      'a hidden size without its weights',
      'config.json',
      (config: Json) => ({ ...config, num_hidden_layers: 3 }),
      'is missing from the checkpoint',
    ],
  ])('%s is refused by name', async (_, file, change, message) => {
    await expect(changed(file, change)).rejects.toThrow(message);
    await expect(changed(file, change)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
  });
});
