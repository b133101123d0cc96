/** A checkpoint that says its head is the embedding and has a head of its own: taken where they are equal, refused where they differ. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { goldenFolder } from '../../support/golden.js';

const folder = mkdtempSync(path.join(tmpdir(), 'tied-head-'));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Offsets of a tensor's bytes in a file. */
function placeOf(file: Buffer, name: string): [number, number] {
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const [start, end] = header[name]!.data_offsets;
  return [8 + headerBytes + start, 8 + headerBytes + end];
}

/** The golden with an own head, which says that it has none. @param isCopy its head is the embedding */
function tiedCheckpoint(isCopy: boolean): string {
  cpSync(goldenFolder('phi3'), folder, { recursive: true });
  const config = path.join(folder, 'config.json');
  const said = JSON.parse(readFileSync(config, 'utf8')) as { tie_word_embeddings: boolean };
  expect(said.tie_word_embeddings).toBe(false);
  writeFileSync(config, JSON.stringify({ ...said, tie_word_embeddings: true }));
  const weights = path.join(folder, 'model.safetensors');
  const file = readFileSync(weights);
  const [start] = placeOf(file, 'lm_head.weight');
  if (isCopy) file.copy(file, start, ...placeOf(file, 'model.embed_tokens.weight'));
  writeFileSync(weights, file);
  return folder;
}

const split = (from: string) =>
  partition({ folder: from, outStore: path.join(from, 'store'), tp: 1, dtype: 'fp32' });

it('is taken where the two are equal', async () => {
  expect(await split(tiedCheckpoint(true))).toMatchObject({ reused: false });
});

it('is refused where they differ, and says what to do', async () => {
  await expect(split(tiedCheckpoint(false))).rejects.toMatchObject({
    code: 'CHECKPOINT_INVALID',
    message: expect.stringMatching(
      /lm_head\.weight differs from model\.embed_tokens\.weight: set it to false/,
    ),
  });
});
