/** Shards in the layout of our own kernels: joined again they equal the checkpoint, and a changed byte is found. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PartitionOptions, type PartitionResult, partition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import type { Manifest } from '../../../proto/manifest.js';
import { SingleRankCollective } from '../../../shard-worker/collective/single-rank.js';
import type { Device } from '../../../shard-worker/device/device.js';
import { Executor } from '../../../shard-worker/executor.js';
import type { KvCache } from '../../../shard-worker/kv-cache.js';
import { goldenFolder } from '../../support/golden.js';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'panels-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

const split = (options: Omit<PartitionOptions, 'outStore'>): Promise<PartitionResult> =>
  partition({ outStore: path.join(scratch, 'store'), layout: 'panels', ...options });

describe('joined again, shards equal the checkpoint', () => {
  it.each([
    ['llama', { dtype: 'fp32', tp: 4 }],
    ['llama', { dtype: 'int4', tp: 2 }],
    ['llama', { dtype: 'int4', tp: 1, symmetric: false, eightBit: ['head', 'down'] }],
    ['mistral', { dtype: 'int8', tp: 4, symmetric: false }],
    ['qwen3', { dtype: 'int4', tp: 2, blockSize: 64, scales: 'nearest' }],
    ['qwen2', { dtype: 'bf16', tp: 2 }],
    ['gpt2', { dtype: 'fp16', tp: 1 }],
    ['gptj', { dtype: 'int8', tp: 2 }],
    ['falcon-7b', { dtype: 'fp32', tp: 1 }],
    ['mixtral', { dtype: 'int4', tp: 2 }],
    ['gpt-oss-mxfp4', { dtype: 'int8', tp: 2 }],
    ['gptq', { dtype: 'int4', tp: 2 }],
    ['awq', { dtype: 'int4', tp: 1 }],
    ['encoder-bert', { dtype: 'int8', tp: 2 }],
  ] as const)('%s %j', async (family, options) => {
    const folder = goldenFolder(family);
    const { shardFolder, manifest } = await split({ folder, ...options });
    const { bytes } = await verifyShards({ folder, shardFolder });
    const stored = manifest.tensors.reduce(
      (sum, tensor) => sum + tensor.bytes * (tensor.file === 'rank' ? manifest.worldSize : 1),
      0,
    );
    expect(bytes).toBe(stored);
    const linears = manifest.tensors.filter(({ panels }) => panels !== undefined);
    // What is asked for, and nothing smaller.
    expect(manifest.weightFormat.dtype).toBe(options.dtype);
    expect(linears.length > 0).toBe(manifest.weightFormat.layout === 'panels');
    expect(linears.every(({ offset }) => offset % 4096 === 0)).toBe(true);
  });
});

describe('--verify', () => {
  const folder = goldenFolder('llama');

  /** A copy with one changed byte, whose checksum is right. */
  function tamper({ shardFolder, manifest }: PartitionResult, at: number): string {
    const copy = mkdtempSync(path.join(scratch, 'tampered-'));
    cpSync(shardFolder, copy, { recursive: true });
    const file = path.join(copy, 'rank-1.weights');
    const bytes = readFileSync(file);
    bytes[at]! ^= 1;
    writeFileSync(file, bytes);
    const changed: Manifest = structuredClone(manifest);
    changed.ranks[1]!.weights.sha256 = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(path.join(copy, 'manifest.json'), JSON.stringify(changed));
    return copy;
  }

  it.each([
    ['fp32', 'layer-0.qkv.weight', 0, 'weights'],
    ['bf16', 'layer-1.gate-up.weight', 64, 'weights'],
    ['int4', 'layer-1.down.weight', 2, 'scales'],
    ['int4', 'layer-1.down.weight', 65, 'zero points'],
    ['int4', 'layer-0.attention-out.weight', 130, 'codes'],
    ['int8', 'head.weight', 200, 'codes'],
  ] as const)('%s: finds a wrong byte of %s', async (dtype, name, offset, what) => {
    const shards = await split({ folder, tp: 2, dtype, symmetric: false });
    const tensor = shards.manifest.tensors.find((entry) => entry.name === name)!;
    await expect(
      verifyShards({ folder, shardFolder: tamper(shards, tensor.offset + offset) }),
    ).rejects.toThrow(new RegExp(`${name} of rank 1 differs from the checkpoint in row \\d+ \\(${what}\\)`));
  });

  it('finds a linear that says it adds other pieces, or has other sizes', async () => {
    const { shardFolder, manifest } = await split({ folder, tp: 2, dtype: 'int4' });
    const copy = mkdtempSync(path.join(scratch, 'tampered-'));
    cpSync(shardFolder, copy, { recursive: true });
    const changed: Manifest = structuredClone(manifest);
    changed.tensors.find(({ name }) => name === 'layer-0.down.weight')!.panels!.pieces = 4;
    writeFileSync(path.join(copy, 'manifest.json'), JSON.stringify(changed));
    await expect(verifyShards({ folder, shardFolder: copy })).rejects.toThrow(
      'layer-0.down.weight is read otherwise than the manifest says',
    );
  });
});

it('refuses blocks that our kernels do not have', async () => {
  const folder = goldenFolder('llama');
  await expect(split({ folder, tp: 1, dtype: 'int4', blockSize: 16 })).rejects.toThrow(
    'block size 16 is not one of 32, 64, 128, 256',
  );
});

it('a worker without kernels refuses shards that are laid out for them', async () => {
  const { manifest, shardFolder } = await split({ folder: goldenFolder('llama'), tp: 1, dtype: 'int4' });
  const executor = new Executor({
    ...{ manifest, shardFolder, rank: 0, maxStepTokens: 8, maxRows: 1 },
    device: { deviceClass: 'cpu', isRemote: false, hasKernels: false } as Device,
    collective: new SingleRankCollective(),
    kvCache: null as unknown as KvCache,
  });
  await expect(executor.load()).rejects.toMatchObject({
    code: 'SHARDS_INVALID',
    message: expect.stringContaining('SHARDSERVE_KERNELS=off'),
  });
});

it('a worker refuses shards that are made for another device', async () => {
  const { manifest, shardFolder } = await split({ folder: goldenFolder('llama'), tp: 1, dtype: 'int4' });
  const executor = new Executor({
    ...{ manifest, shardFolder, rank: 0, maxStepTokens: 8, maxRows: 1 },
    device: { deviceClass: 'webgpu', isRemote: true } as Device,
    collective: new SingleRankCollective(),
    kvCache: null as unknown as KvCache,
  });
  await expect(executor.load()).rejects.toMatchObject({
    code: 'SHARDS_INVALID',
    message: 'the shards are for cpu, this rank computes on webgpu',
  });
});
