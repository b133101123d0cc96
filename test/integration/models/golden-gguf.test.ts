/**
 * Tiny models in GGUF, by llama.cpp's own writer, against transformers' classes with the weights that they stand for (make_gguf.py): every
 * position's answer in float32, split and whole.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition, planPartition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { goldenFolder } from '../../support/golden.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../../support/golden-families.js';
import { greedyRuns } from '../../support/greedy-runs.js';
import { createInProcessGroup } from '../../support/in-process-group.js';

interface GgufGolden {
  prompts: { ids: number[]; greedyIds: number[]; logits: number[] }[];
}

const FOLDER = goldenFolder('gguf');
const NAMES = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.gguf'))
  .map((name) => name.slice(0, -'.gguf'.length))
  .sort();
const fileOf = (name: string): string => path.join(FOLDER, `${name}.gguf`);
const goldenOf = (name: string): GgufGolden =>
  JSON.parse(readFileSync(path.join(FOLDER, `${name}.json`), 'utf8')) as GgufGolden;

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'golden-gguf-'));
});
afterAll(() => rmSync(store, { recursive: true }));

it('has a file of each family', () => {
  expect(NAMES).toEqual(['gemma', 'gemma2', 'gemma3', 'llama', 'llama-stretched', 'phi3', 'qwen2', 'qwen3']);
});

describe.each(NAMES)('%s', (name) => {
  it.each([1, 2])('at tp %i writes the texts of transformers in float32', async (tp) => {
    const options = { folder: fileOf(name), outStore: store, tp, dtype: 'fp32' as const };
    const { manifest, shardFolder } = await partition(options);
    await verifyShards({ folder: fileOf(name), shardFolder });
    const { plan } = await planPartition(options);
    expect(plan.rankBytes).toBe(manifest.ranks[0]?.weights.bytes);
    const run = greedyRuns(await createInProcessGroup(shardFolder));
    for (const prompt of goldenOf(name).prompts) {
      const { ids, promptLogits } = await run(prompt.ids, prompt.greedyIds.length);
      expect(relativeDeviation(promptLogits, Float32Array.from(prompt.logits))).toBeLessThan(
        RELATIVE_TOLERANCE,
      );
      expect(ids).toEqual(prompt.greedyIds);
    }
  });
});

/** The kernel rounds activations to 8 bits; what is not held is rounded anew. */
const NEAR = 0.06;

describe.each([
  // Query, key and value are Q4_K, and so is down.
  ['llama', 'int4', '2 of 5 linears keep their codes, the others are rounded anew to int8'],
  ['qwen2', 'int8', 'linears keep their codes, the others are rounded anew to int8'],
  // No linear is of one type alone that int4 holds.
  ['llama-stretched', 'int4', 'they are rounded anew to int8'],
] as const)('%s at %s', (name, dtype, told) => {
  it.each([1, 2])('keeps what codes the format holds, and the logits, at tp %i', async (tp) => {
    const options = { folder: fileOf(name), outStore: store, tp, dtype };
    const { shardFolder } = await partition(options);
    await verifyShards({ folder: fileOf(name), shardFolder });
    const { report } = await planPartition(options);
    expect(report.weights).toContain(told);
    const run = greedyRuns(await createInProcessGroup(shardFolder));
    for (const prompt of goldenOf(name).prompts) {
      const { promptLogits } = await run(prompt.ids, 1);
      const deviation = relativeDeviation(promptLogits, Float32Array.from(prompt.logits));
      if (process.env.GOLDEN_REPORT) console.log(name, dtype, report.weights, deviation);
      expect(deviation).toBeLessThan(NEAR);
    }
  });
});

describe('a folder', () => {
  it('with one file is that model; with two it is refused until one is named', async () => {
    const folder = path.join(store, 'models', 'mine');
    mkdirSync(folder, { recursive: true });
    copyFileSync(fileOf('qwen2'), path.join(folder, 'a.gguf'));
    const options = { folder, outStore: store, tp: 1, dtype: 'fp32' as const };
    const { manifest } = await partition(options);
    expect(manifest.model).toMatchObject({ architecture: 'Qwen2ForCausalLM', endIds: [257], beginId: 256 });
    copyFileSync(fileOf('qwen3'), path.join(folder, 'b.gguf'));
    await expect(partition(options)).rejects.toThrow('2 GGUF files: name the one that is meant');
    const other = await partition({ ...options, folder: path.join(folder, 'b.gguf') });
    expect(other.manifest.model.architecture).toBe('Qwen3ForCausalLM');
  });
});
