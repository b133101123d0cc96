/**
 * Checkpoints in GPTQ and AWQ at int4: the shards hold the checkpoint's own codes, scales and zero points, so the model is the
 * published one. Its float32 shards hold the same weights as floats and are held to transformers (families.test.ts).
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../../../partitioner/open-model.js';
import { partition, planPartition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import type { Manifest } from '../../../proto/manifest.js';
import { goldenFolder, readGolden } from '../../support/golden.js';
import { relativeDeviation } from '../../support/golden-families.js';
import { greedyRuns } from '../../support/greedy-runs.js';
import { createInProcessGroup } from '../../support/in-process-group.js';

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'golden-coded-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** The kernel rounds activations to 8 bits, the head's weights are rounded to 8 bits. */
const NEAR = 0.06;

/** A stored tensor of one rank. */
function read(shardFolder: string, manifest: Manifest, name: string, rank: number): Uint8Array {
  const tensor = manifest.tensors.find((candidate) => candidate.name === name);
  if (!tensor) throw new Error(`no ${name}`);
  const bytes = new Uint8Array(tensor.bytes);
  const fd = openSync(path.join(shardFolder, `rank-${rank}.weights`), 'r');
  readSync(fd, bytes, 0, bytes.length, tensor.offset);
  closeSync(fd);
  return bytes;
}

/** The weights of one rank's linear as the operator takes them: (code − zero point) · scale, [rows, columns]. */
function dequantised(shardFolder: string, manifest: Manifest, name: string, rank: number): Float32Array {
  const { packing, shape } = manifest.tensors.find((tensor) => tensor.name === `${name}.weight`) ?? {};
  const [rows = 0, blocks = 0] = shape ?? [];
  const { blockSize = 0, bits } = packing ?? {};
  expect(bits).toBe(4);
  const codes = read(shardFolder, manifest, `${name}.weight`, rank);
  const scales = new Float32Array(read(shardFolder, manifest, `${name}.scales`, rank).buffer);
  const zeros = read(shardFolder, manifest, `${name}.zero-points`, rank);
  const zeroBytes = Math.ceil(blocks / 2);
  const nibble = (bytes: Uint8Array, at: number, odd: number): number => ((bytes[at] ?? 0) >> (4 * odd)) & 15;
  return Float32Array.from({ length: rows * blocks * blockSize }, (_, index) => {
    const row = Math.floor(index / (blocks * blockSize));
    const block = Math.floor((index % (blocks * blockSize)) / blockSize);
    const zero = nibble(zeros, row * zeroBytes + (block >> 1), block & 1);
    return (nibble(codes, index >> 1, index & 1) - zero) * (scales[row * blocks + block] ?? Number.NaN);
  });
}

const BLOCKS: Readonly<Record<string, number>> = { gptq: 32, awq: 64, 'compressed-int4': 32 };

describe.each(Object.keys(BLOCKS))('%s', (family) => {
  const folder = goldenFolder(family);
  const golden = readGolden(family);

  it.each([1, 2, 4])('at tp %i the shards have its codes, and its logits', async (tp) => {
    // The group is the block, whatever is asked for.
    const options = { folder, outStore: store, tp, dtype: 'int4' as const, blockSize: 128 };
    const { shardFolder, manifest } = await partition(options);
    await verifyShards({ folder, shardFolder });
    expect(manifest.weightFormat.blockSize).toBe(BLOCKS[family]);
    const head = manifest.tensors.find(({ name }) => name === 'head.weight');
    expect(head?.packing?.bits ?? head?.panels?.bits).toBe(8);

    const run = greedyRuns(await createInProcessGroup(shardFolder));
    for (const prompt of golden.prompts) {
      const { promptLogits } = await run(prompt.ids, 1, [prompt.ids.length]);
      const deviation = relativeDeviation(promptLogits, golden.logits(prompt, prompt.ids.length - 1));
      if (process.env.GOLDEN_REPORT)
        console.log(`${family} codes tp ${tp} ${prompt.name}: ${deviation.toFixed(4)}`);
      expect(deviation).toBeLessThan(NEAR);
    }
  });

  it('dequantised, a rank has the very floats of the checkpoint', async () => {
    // A piece of the output projection a rank.
    const options = { folder, outStore: store, tp: 2, dtype: 'int4', reproducibleDegree: 2 } as const;
    const { shardFolder, manifest } = await partition(options);
    const { shape, source } = await openModel({ folder });
    for (const rank of [0, 1]) {
      const rows = shape.numHeads * shape.headDim;
      const seen = dequantised(shardFolder, manifest, 'layer-1.attention-out', rank);
      const whole = source.readFloat32('model.layers.1.self_attn.o_proj.weight', 0, shape.hiddenSize);
      const half = rows / 2;
      const expected = Float32Array.from({ length: shape.hiddenSize * half }, (_, index) => {
        return whole[Math.floor(index / half) * rows + rank * half + (index % half)] ?? Number.NaN;
      });
      expect(seen).toEqual(expected);
    }
    source.close();
  });
});

describe('compressed-int8', () => {
  const folder = goldenFolder('compressed-int8');
  const golden = readGolden('compressed-int8');

  it.each([1, 2])('at tp %i and int8 the shards have its codes, and its logits', async (tp) => {
    const { shardFolder, manifest } = await partition({ folder, outStore: store, tp, dtype: 'int8' });
    await verifyShards({ folder, shardFolder });
    const { plan, report } = await planPartition({ folder, tp, dtype: 'int8' });
    expect(plan.rankBytes).toBe(manifest.ranks[0]?.weights.bytes);
    // All but the head.
    expect(report.weights).toContain('COMPRESSED-TENSORS: 8 of 9 linears keep their codes, the others');
    const run = greedyRuns(await createInProcessGroup(shardFolder));
    for (const prompt of golden.prompts) {
      const { promptLogits } = await run(prompt.ids, 1, [prompt.ids.length]);
      const expected = golden.logits(prompt, prompt.ids.length - 1);
      expect(relativeDeviation(promptLogits, expected)).toBeLessThan(NEAR);
    }
  });
});

describe('columns that desc_act has put out of their order', () => {
  const folder = goldenFolder('gptq-act-order');

  it('are refused at int4, with what would do', async () => {
    const options = { folder, outStore: store, tp: 1 };
    const refused = partition({ ...options, dtype: 'int4' });
    await expect(refused).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(refused).rejects.toThrow('use int8 or fp32');
  });
});

it('the plan of config.json alone is that of the checkpoint', async () => {
  for (const family of Object.keys(BLOCKS)) {
    const options = { folder: goldenFolder(family), tp: 2, dtype: 'int4' as const };
    const { plan } = await planPartition(options);
    const { manifest } = await partition({ ...options, outStore: store });
    expect(plan.rankBytes).toBe(manifest.ranks[0]?.weights.bytes);
  }
});
