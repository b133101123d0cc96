/**
 * Tiny models in GGUF, by llama.cpp's own writer, against transformers' classes with the weights that they stand for (make_gguf.py): every
 * position's answer in float32, split and whole.
 */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { widened } from '../../../partitioner/checkpoint/float-widening.js';
import { decodeBlocks, ggmlType } from '../../../partitioner/checkpoint/ggml-blocks.js';
import { partition, planPartition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { readGgufHeader } from '../../../proto/gguf-header.js';
import { type FloatTensor, ggufBytes, type MetadataValue } from '../../support/gguf-bytes.js';
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
  const others = [
    'deepseek2',
    'deepseek2-lite',
    'gemma',
    'gemma2',
    'gemma3',
    'gpt-oss',
    'llama',
    'llama-stretched',
    'mixtral',
    'phi3',
    'qwen2',
    'qwen2moe',
    'qwen3',
  ];
  expect(NAMES).toEqual([...others, 'qwen3moe']);
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
  // Latents' matrices, a head each, are of 8 bits, whatever the file has.
  ['deepseek2', 'int8', 'linears keep their codes, the others are rounded anew to int8'],
  ['deepseek2-lite', 'int4', 'linears keep their codes, the others are rounded anew to int8'],
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

describe('a file in parts', () => {
  /** As llama-gguf-split writes them: what the model is in the first, tensors in all. @param more tensors of the last, by the first part's */
  function split(
    name: string,
    changes: (part: number) => Record<string, number> = () => ({}),
    more: (first: FloatTensor[]) => FloatTensor[] = () => [],
  ): string {
    const { folder, metadata, tensors } = floatsOf(name);
    const first = tensors.slice(0, 5);
    const parts = [first, tensors.slice(5, 9), [...tensors.slice(9), ...more(first)]];
    parts.forEach((own, part) => {
      const told = {
        'split.no': part,
        'split.count': parts.length,
        'split.tensors.count': parts.flat().length,
      };
      const all = { ...(part === 0 ? metadata : {}), ...told, ...changes(part) };
      writeFileSync(path.join(folder, `m-0000${part + 1}-of-00003.gguf`), ggufBytes(all, own));
    });
    return path.join(folder, 'm-00001-of-00003.gguf');
  }

  /** A golden's floats and metadata, of which another file is made. */
  function floatsOf(name: string) {
    const header = readGgufHeader(fileOf(name));
    const bytes = readFileSync(fileOf(name));
    const tensors = [...header.tensors.values()].map(({ name: own, offset, shape, type }) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const { bytes: blockBytes, weights } = ggmlType(type)!;
      const start = header.dataStart + offset;
      const raw = bytes.subarray(start, start + (count / weights) * blockBytes);
      const values = new Float32Array(count);
      if (type === 0) values.set(new Float32Array(new Uint8Array(raw).buffer));
      else if (type === 1 || type === 30) {
        values.set(widened(new Uint16Array(new Uint8Array(raw).buffer), type === 30));
      } else decodeBlocks(ggmlType(type)!, raw, values);
      return { name: own, shape, values };
    });
    const metadata = Object.fromEntries(header.metadata) as Record<string, MetadataValue>;
    return { folder: mkdtempSync(path.join(store, 'parts-')), metadata, tensors };
  }

  it('is the model that it is whole, by its folder or its first part', async () => {
    const file = split('qwen3');
    const options = { outStore: store, tp: 2, dtype: 'fp32' as const };
    const { manifest, shardFolder } = await partition({ ...options, folder: path.dirname(file) });
    expect(manifest.sources.map(({ path: own }) => own)).toHaveLength(3);
    await verifyShards({ folder: file, shardFolder });
    const run = greedyRuns(await createInProcessGroup(shardFolder));
    for (const { greedyIds, ids } of goldenOf('qwen3').prompts) {
      expect((await run(ids, greedyIds.length)).ids).toEqual(greedyIds);
    }
  });

  it('is refused where a part is missing, is another, or has what another has', async () => {
    const plan = (folder: string) => planPartition({ folder, tp: 1 });
    const file = split('qwen3');
    const second = file.replace('00001-of', '00002-of');
    await expect(plan(second)).rejects.toThrow('a part of a model; name the first');
    copyFileSync(file.replace('00001-of', '00003-of'), second);
    await expect(plan(file)).rejects.toThrow('says that it is part 3, its name says 2');
    rmSync(second);
    await expect(plan(file)).rejects.toThrow('part 2 of 3 is missing');
    await expect(plan(split('qwen3', () => ({ 'split.count': 4 })))).rejects.toThrow('one of 4 parts');
    await expect(plan(split('qwen3', () => ({ 'split.tensors.count': 99 })))).rejects.toThrow('99 tensors');
    const twice = split('qwen3', undefined, ([one]) => [one!]);
    await expect(plan(twice)).rejects.toThrow(/00003-of-00003.*tensor \S+ is in an earlier part too/);
  });

  it('is refused where a tensor is called what an expert of a stack is', async () => {
    const name = 'model.layers.0.mlp.experts.1.up_proj.weight';
    const folder = split('qwen3moe', undefined, () => [{ name, shape: [1], values: new Float32Array(1) }]);
    await expect(planPartition({ folder, tp: 1 })).rejects.toThrow(`a second tensor stands for ${name}`);
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
