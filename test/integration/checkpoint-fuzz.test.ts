/**
 * Damaged checkpoints: whatever is wrong with a file, the partitioner either makes shards or says what is wrong, and writes
 * nowhere but into its store. Seeded: TEST_SEED repeats a run.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { ServingError } from '../../proto/errors.js';
import { type SeededRandom, seededRandom, testSeed } from '../fixtures/seeded-random.js';
import { goldenFolder } from '../support/golden.js';

const CASES = 120;
const CODES = ['CHECKPOINT_INVALID', 'TENSOR_PARALLEL_INVALID', 'CONFIG_INVALID'];
/** What stands in place of a number or a word of a JSON file. */
const VALUES = [
  -1,
  0,
  1.5,
  2 ** 53,
  1e308,
  null,
  true,
  '',
  '../../etc/passwd',
  '/etc/passwd',
  'a\u0000b',
  [],
  {},
  [[[[[]]]]],
  '9'.repeat(400),
];

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'fuzz-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** Puts something else in place of one value, anywhere in the tree. */
function mutateJson(text: string, random: SeededRandom): string {
  const root = JSON.parse(text) as unknown;
  const places: { holder: Record<string, unknown>; key: string }[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const key of Object.keys(value)) {
      places.push({ holder: value as Record<string, unknown>, key });
      visit((value as Record<string, unknown>)[key]);
    }
  };
  visit(root);
  const { holder, key } = random.pick(places);
  if (random.next() < 0.2) delete holder[key];
  else holder[key] = random.pick(VALUES);
  return JSON.stringify(root);
}

/** Flips bytes among the first ones, cuts the file, or claims another header length. */
function mutateBytes(file: string, random: SeededRandom): void {
  const bytes = readFileSync(file);
  const kind = random.integer(0, 3);
  if (kind === 0) {
    truncateSync(file, random.integer(0, bytes.length - 1));
    return;
  }
  if (kind === 1) bytes.writeBigUInt64LE(2n ** BigInt(random.integer(0, 63)) - 1n, 0);
  else if (kind === 2)
    bytes[random.integer(0, Math.min(600, bytes.length - 1))]! ^= 1 << random.integer(0, 7);
  else for (let i = 0; i < 20; i++) bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255);
  writeFileSync(file, bytes);
}

it.each(['llama', 'mixtral', 'gptq'])('%s: makes shards, or names what is wrong', async (family) => {
  const random = seededRandom(testSeed);
  const folder = path.join(scratch, family);
  const store = path.join(scratch, `${family}-store`);
  for (let round = 0; round < CASES / 3; round++) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(goldenFolder(family), folder, { recursive: true });
    const names = readdirSync(folder).filter((name) =>
      /config\.json$|index\.json$|\.safetensors$/.test(name),
    );
    const name = random.pick(names);
    const file = path.join(folder, name);
    if (name.endsWith('.json') && random.next() < 0.8) {
      writeFileSync(file, mutateJson(readFileSync(file, 'utf8'), random));
    } else {
      mutateBytes(file, random);
    }
    const before = readdirSync(scratch, { recursive: true, encoding: 'utf8' }).filter(
      (entry) => !entry.includes('-store'),
    );
    const where = `seed ${testSeed}, ${family} round ${round}, ${name}`;
    try {
      await partition({ folder, outStore: store, tp: 1, dtype: 'fp32' });
    } catch (error) {
      expect(error, where).toBeInstanceOf(ServingError);
      expect(CODES, `${where}: ${String(error)}`).toContain((error as ServingError).code);
      expect((error as Error).message.length, where).toBeGreaterThan(15);
    }
    const after = readdirSync(scratch, { recursive: true, encoding: 'utf8' }).filter(
      (entry) => !entry.includes('-store'),
    );
    expect(after, where).toEqual(before);
    rmSync(store, { recursive: true, force: true });
  }
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
  ['model.Q4_0.gguf', 'only "model.Q4_0.gguf": GGUF is not read; the checkpoint that it was made of is'],
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
