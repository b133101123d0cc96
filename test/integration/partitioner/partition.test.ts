/** partitioner: checkpoints → shards on disk, --verify, and what ONNX Runtime makes of the graphs. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PartitionOptions, type PartitionResult, partition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { type Manifest, parseManifest } from '../../../proto/manifest.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { TOY_CONFIG } from '../../fixtures/toy-config.js';
import { goldenFolder } from '../../support/golden.js';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'partition-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** For ONNX Runtime's operators, which load without a library of ours; panels.test.ts has the other layout. */
const split = (options: Omit<PartitionOptions, 'outStore'>): Promise<PartitionResult> =>
  partition({ outStore: path.join(scratch, 'store'), layout: 'blocks', ...options });

/** A folder with the toy's config.json alone: weights are random. */
function toyFolder(changes: Record<string, unknown> = {}): string {
  const folder = mkdtempSync(path.join(scratch, 'toy-'));
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ ...TOY_CONFIG, ...changes }));
  return folder;
}

const FAMILIES = ['llama', 'llama-linear', 'mistral', 'qwen2', 'qwen3'];

describe.each(FAMILIES)('%s', (family) => {
  const folder = goldenFolder(family);

  it.each([
    ['fp32', 1, 128],
    ['fp32', 2, 128],
    ['fp32', 4, 128],
    ['fp32', 8, 128],
    ['int4', 1, 16],
    ['int4', 2, 128],
    ['int4', 4, 16],
    ['int8', 1, 32],
    ['int8', 4, 32],
  ] as const)('%s at tp %i, block %i: joined again equals the checkpoint', async (dtype, tp, blockSize) => {
    const { shardFolder, manifest } = await split({ folder, tp, dtype, blockSize });
    const { tensors, bytes } = await verifyShards({ folder, shardFolder });
    expect(tensors).toBe(manifest.tensors.length);
    const stored = manifest.tensors.reduce(
      (sum, tensor) => sum + tensor.bytes * (tensor.file === 'rank' ? tp : 1),
      0,
    );
    expect(bytes).toBe(stored);
  });

  it.each([
    { dtype: 'int4', symmetric: false, eightBit: ['head', 'qkv', 'down'], tp: 2 },
    { dtype: 'int4', scales: 'nearest', eightBit: ['first'], tp: 4 },
    { dtype: 'int8', symmetric: false, tp: 4 },
    { dtype: 'int4', symmetric: false, tp: 1 },
    { dtype: 'int8', tp: 4 },
  ] as const)('%j: joined again equals the checkpoint, and every graph loads', async (format) => {
    const result = await split({ folder, blockSize: 16, ...format });
    await verifyShards({ folder, shardFolder: result.shardFolder });
    const { segments } = result.manifest.ranks.at(-1)!;
    for (const segment of segments) await (await load(result, segment.path)).release();
  });

  it.each(['fp32', 'int4', 'int8'] as const)('ONNX Runtime loads every graph of %s', async (dtype) => {
    const result = await split({ folder, tp: 4, dtype, blockSize: 16 });
    const segments = result.manifest.ranks.flatMap((rank) => rank.segments);
    expect(segments).toHaveLength(4 * (3 * result.manifest.model.numLayers + 6));
    for (const segment of segments) await (await load(result, segment.path)).release();
  });
});

/** As the worker does: graph from memory, weights relative to the shard folder. */
function load(
  { shardFolder }: Pick<PartitionResult, 'shardFolder'>,
  segment: string,
): Promise<InferenceSession> {
  return InferenceSession.create(readFileSync(path.join(shardFolder, segment)), {
    logSeverityLevel: 3,
    intraOpNumThreads: 1,
    extra: { session: { model_external_initializers_file_folder_path: shardFolder } },
  });
}

describe('the attend segments', () => {
  const s = 3;
  const t = 7;
  const heads = 4;
  const kvHeads = 2;
  const headDim = 8;
  const random = seededRandom(testSeed);
  const noise = (count: number) => Float32Array.from({ length: count }, () => random.normal());
  const query = noise(s * heads * headDim);
  const key = noise(t * kvHeads * headDim);
  const value = noise(t * kvHeads * headDim);

  /** Softmax attention from its definition; scale 1. */
  function reference(isSeen: (queryIndex: number, keyIndex: number) => boolean): Float32Array {
    const output = new Float32Array(s * heads * headDim);
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor((head * kvHeads) / heads);
      for (let i = 0; i < s; i++) {
        const weights = Array.from({ length: t }, (_, j) => {
          let score = 0;
          for (let d = 0; d < headDim; d++) {
            score += query[(i * heads + head) * headDim + d]! * key[(j * kvHeads + kvHead) * headDim + d]!;
          }
          return isSeen(i, j) ? Math.exp(score) : 0;
        });
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let j = 0; j < t; j++) {
          for (let d = 0; d < headDim; d++) {
            const part = (weights[j]! / total) * value[(j * kvHeads + kvHead) * headDim + d]!;
            output[(i * heads + head) * headDim + d]! += part;
          }
        }
      }
    }
    return output;
  }

  /** Rows of one KV head, and one more that doesn't count. */
  const plane = (rows: Float32Array, kvHead: number, more: number): Tensor => {
    const columns = kvHeads * headDim;
    const own = Array.from({ length: t }, (_, row) =>
      rows.subarray(row * columns + kvHead * headDim, row * columns + (kvHead + 1) * headDim),
    );
    const behind = new Array<number>(more * headDim).fill(1);
    return new Tensor('float32', Float32Array.from([...own.flatMap((row) => [...row]), ...behind]), [
      1,
      t + more,
      headDim,
    ]);
  };
  const planesWith = (more: number): Record<string, Tensor> =>
    Object.fromEntries(
      Array.from({ length: kvHeads }, (_, head) => [
        [`key-${head}`, plane(key, head, more)],
        [`value-${head}`, plane(value, head, more)],
      ]).flat(),
    );
  const planes = planesWith(0);

  async function run(segment: string, mask?: Float32Array): Promise<Float32Array> {
    const folder = toyFolder({ num_attention_heads: 8, num_key_value_heads: 4, head_dim: headDim });
    const result = await split({ folder, tp: 2, dtype: 'fp32', randomWeights: true });
    const session = await load(result, `rank-1/${segment}.onnx`);
    const { output } = await session.run({
      query: new Tensor('float32', query, [1, s, heads * headDim]),
      ...planes,
      length: new Tensor('int64', BigInt64Array.of(BigInt(t)), [1]),
      ...(mask ? { mask: new Tensor('float32', mask, [s, t]) } : {}),
    });
    return output?.data as Float32Array;
  }

  const furthest = (a: Float32Array, b: Float32Array) =>
    Math.max(...a.map((number, index) => Math.abs(number - b[index]!)));

  it(`without a mask are causal from the bottom right (TEST_SEED=${testSeed})`, async () => {
    const expected = reference((i, j) => j <= t - s + i);
    expect(furthest(await run('attend'), expected)).toBeLessThan(1e-5);
  });

  it('of one token take the heads of a KV head together, and no row behind the length', async () => {
    const folder = toyFolder({ num_attention_heads: 8, num_key_value_heads: 4, head_dim: headDim });
    const result = await split({ folder, tp: 2, dtype: 'fp32', randomWeights: true });
    const session = await load(result, 'rank-1/attend-token.onnx');
    const group = heads / kvHeads;
    const last = query.subarray((s - 1) * heads * headDim);
    const queries = Array.from({ length: kvHeads }, (_, head) => [
      `query-${head}`,
      new Tensor('float32', last.slice(head * group * headDim, (head + 1) * group * headDim), [
        1,
        group,
        headDim,
      ]),
    ]);
    const outputs = await session.run({
      ...Object.fromEntries(queries),
      ...planesWith(2),
      length: new Tensor('int64', BigInt64Array.of(BigInt(t)), [1]),
    });
    const output = Array.from({ length: kvHeads }, (_, head) => [
      ...((outputs[`output-${head}`]?.data ?? []) as Float32Array),
    ]).flat();
    const expected = reference(() => true).subarray((s - 1) * heads * headDim);
    expect(furthest(Float32Array.from(output), expected)).toBeLessThan(1e-5);
  });

  it('with a mask see what it says', async () => {
    const isSeen = (i: number, j: number) => j <= t - s + i && j > t - s + i - 3;
    const mask = Float32Array.from({ length: s * t }, (_, index) =>
      isSeen(Math.floor(index / t), index % t) ? 0 : -3.4e38,
    );
    expect(furthest(await run('attend-masked', mask), reference(isSeen))).toBeLessThan(1e-5);
  });
});

describe('--verify', () => {
  const folder = goldenFolder('qwen3');
  let shards: PartitionResult;
  let int4Shards: PartitionResult;
  beforeAll(async () => {
    shards = await split({ folder, tp: 2, dtype: 'fp32' });
    int4Shards = await split({ folder, tp: 2, dtype: 'int4', blockSize: 32 });
  });

  /** A copy of the shards with one byte of a file changed; `isSigned` fixes the manifest's checksum, as a faulty writer would. */
  function tamper(original: PartitionResult, file: string, offset: number, isSigned: boolean): string {
    const copy = mkdtempSync(path.join(scratch, 'tampered-'));
    cpSync(original.shardFolder, copy, { recursive: true });
    const bytes = readFileSync(path.join(copy, file));
    bytes[offset] = bytes[offset]! ^ 0x40;
    writeFileSync(path.join(copy, file), bytes);
    if (isSigned) {
      const manifest = readManifest(copy);
      const { ranks, shared } = manifest;
      const entries = [shared, ...ranks.flatMap((rank) => [rank.weights, ...rank.segments])];
      const entry = entries.find((candidate) => candidate?.path === file)!;
      entry.sha256 = createHash('sha256').update(bytes).digest('hex');
      writeFileSync(path.join(copy, 'manifest.json'), JSON.stringify(manifest));
    }
    return copy;
  }

  const readManifest = (shardFolder: string): Manifest =>
    parseManifest(readFileSync(path.join(shardFolder, 'manifest.json'), 'utf8'), 'manifest');

  /** A tensor, or the rank's last piece of it. */
  const find = ({ manifest }: PartitionResult, name: string) =>
    manifest.tensors.findLast((tensor) => tensor.name.replace(/\.piece-\d+/, '') === name)!;

  it('finds a changed byte by the checksum', async () => {
    const shardFolder = tamper(shards, 'rank-1.weights', 5000, false);
    await expect(verifyShards({ folder, shardFolder })).rejects.toMatchObject({ code: 'SHARDS_INVALID' });
    await expect(verifyShards({ folder, shardFolder })).rejects.toThrow(
      "rank-1.weights: its SHA-256 differs from the manifest's",
    );
  });

  it('finds a shortened file', async () => {
    const shardFolder = tamper(shards, 'rank-0.weights', 0, false);
    const file = path.join(shardFolder, 'rank-0.weights');
    writeFileSync(file, readFileSync(file).subarray(0, -1));
    await expect(verifyShards({ folder, shardFolder })).rejects.toThrow(
      /rank-0.weights has \d+ bytes, the manifest/,
    );
  });

  it.each([
    ['embedding', 'shared.weights'],
    ['final-norm', 'shared.weights'],
    ['layer-1.query-norm', 'shared.weights'],
    ['layer-0.qkv.weight', 'rank-1.weights'],
    ['layer-1.attention-out.weight', 'rank-1.weights'],
    ['layer-1.gate-up.weight', 'rank-0.weights'],
    ['layer-0.down.weight', 'rank-1.weights'],
    ['head.weight', 'rank-1.weights'],
  ])('finds a wrong %s whose checksum is right', async (name, file) => {
    for (const original of [shards, int4Shards]) {
      const { offset, bytes, name: stored } = find(original, name);
      const shardFolder = tamper(original, file, offset + bytes - 1, true);
      await expect(verifyShards({ folder, shardFolder })).rejects.toThrow(
        /differs from the checkpoint in row \d+/,
      );
      await expect(verifyShards({ folder, shardFolder })).rejects.toThrow(stored);
    }
  });

  it('finds a wrong scale, a wrong angle, and a graph that points elsewhere', async () => {
    const scales = find(int4Shards, 'layer-1.down.scales');
    const wrongScale = tamper(int4Shards, 'rank-1.weights', scales.offset + scales.bytes - 2, true);
    await expect(verifyShards({ folder, shardFolder: wrongScale })).rejects.toThrow(
      'layer-1.down.piece-1.scales of rank 1',
    );
    const sines = find(shards, 'rope.sin');
    const wrongAngle = tamper(shards, 'shared.weights', sines.offset + sines.bytes - 1, true);
    await expect(verifyShards({ folder, shardFolder: wrongAngle })).rejects.toThrow(
      'rope.sin: position 4095',
    );
    const graph = 'rank-1/head.onnx';
    const at = readFileSync(path.join(shards.shardFolder, graph)).lastIndexOf(
      String(find(shards, 'head.weight').offset),
    );
    const wrongGraph = tamper(shards, graph, at, true);
    await expect(verifyShards({ folder, shardFolder: wrongGraph })).rejects.toThrow(
      'rank-1/head.onnx: its weight head.weight is not where the manifest says',
    );
  });

  it('finds a piece that is missing, or that says it is another', async () => {
    const broken = async (change: (tensors: Manifest['tensors']) => void): Promise<void> => {
      const copy = mkdtempSync(path.join(scratch, 'tampered-'));
      cpSync(int4Shards.shardFolder, copy, { recursive: true });
      const manifest = readManifest(copy);
      change(manifest.tensors);
      writeFileSync(path.join(copy, 'manifest.json'), JSON.stringify(manifest));
      await verifyShards({ folder, shardFolder: copy });
    };
    const name = 'layer-0.down.piece-1.scales';
    await expect(
      broken((tensors) => {
        const at = tensors.findIndex((tensor) => tensor.name === name);
        tensors.splice(at, 1);
      }),
    ).rejects.toThrow(`${name} is not where the manifest says`);
    await expect(
      broken((tensors) => {
        tensors.find((tensor) => tensor.name === 'layer-0.down.piece-1.weight')!.piece = { index: 0, of: 2 };
      }),
    ).rejects.toThrow('layer-0.down.piece-1.weight of rank 0 differs from the checkpoint in row 0');
  });

  it.each<[string, (manifest: Manifest) => void, string]>([
    [
      'a tensor is missing',
      ({ tensors }) =>
        tensors.splice(
          tensors.findIndex(({ name }) => name === 'layer-0.key-norm'),
          1,
        ),
      'rank-0/layer-0-qkv.onnx: its weight layer-0.key-norm is not where the manifest says',
    ],
    [
      'two roles are exchanged',
      ({ tensors }) => {
        tensors.find(({ name }) => name === 'layer-0.key-norm')!.sources = [
          'model.layers.0.self_attn.q_norm.weight',
        ];
      },
      'layer-0.key-norm is made of model.layers.0.self_attn.q_norm.weight, not of model.layers.0.self_attn.k_norm',
    ],
    [
      'a rank is left out',
      (manifest) => {
        manifest.worldSize = 1;
        manifest.ranks.pop();
      },
      'rank 0 holds 2 KV heads, its queries read 4',
    ],
    [
      'a rank is left out, and the rows of the column-parallel tensors are not looked at',
      (manifest) => {
        manifest.worldSize = 1;
        manifest.ranks.pop();
        manifest.tensors.sort((a, b) => Number(b.split === 'row') - Number(a.split === 'row'));
      },
      'layer-0.attention-out.weight: column 128 of model.layers.0.self_attn.o_proj.weight is on no rank',
    ],
  ])('finds a manifest in which %s', async (_, change, message) => {
    const copy = mkdtempSync(path.join(scratch, 'tampered-'));
    cpSync(shards.shardFolder, copy, { recursive: true });
    const manifest = readManifest(copy);
    change(manifest);
    writeFileSync(path.join(copy, 'manifest.json'), JSON.stringify(manifest));
    await expect(verifyShards({ folder, shardFolder: copy })).rejects.toThrow(message);
  });

  it('with random weights compares with the same noise', async () => {
    const toy = toyFolder({ attention_bias: true, mlp_bias: true });
    const options = { folder: toy, randomWeights: true, seed: 7 };
    const { shardFolder } = await split({ ...options, tp: 8, dtype: 'fp32' });
    await verifyShards({ ...options, shardFolder });
    await expect(verifyShards({ ...options, seed: 8, shardFolder })).rejects.toThrow(
      'embedding of rank 0 differs',
    );
  });
});

describe('the manifest', () => {
  it('says what the server must know', async () => {
    const folder = toyFolder({ eos_token_id: [2, 3], bos_token_id: 1 });
    writeFileSync(
      path.join(folder, 'generation_config.json'),
      JSON.stringify({ temperature: 0.6, do_sample: true, eos_token_id: 5, transformers_version: '5' }),
    );
    const { manifest } = await split({ folder, tp: 2, randomWeights: true, seed: 3 });
    expect(manifest).toMatchObject({
      worldSize: 2,
      deviceClass: 'cpu',
      weightFormat: { dtype: 'fp32', blockSize: null },
      randomWeights: true,
      perRank: { numHeads: 4, numKvHeads: 2, headDim: 8, vocab: 80 },
      model: {
        vocabSize: 131,
        contextLength: 128,
        endIds: [5],
        beginId: 1,
        generationDefaults: { temperature: 0.6, do_sample: true },
      },
      sources: [],
    });
  });

  it('names the files of the checkpoint', async () => {
    const { manifest } = await split({ folder: goldenFolder('mistral'), tp: 1 });
    expect(manifest.sources.map((source) => source.path)).toContain('model.safetensors');
  });
});
