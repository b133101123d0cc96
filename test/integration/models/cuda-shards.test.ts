/** Shards for CUDA: attention in halves, run by ONNX Runtime's CPU operator, which is the same operator's definition. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { readManifest } from '../../../shard-worker/read-manifest.js';
import { referenceAttention } from '../../../shard-worker/remote-attention-check.js';
import { readSegment } from '../../../shard-worker/shard-files.js';
import { goldenFolder } from '../../support/golden.js';

const store = mkdtempSync(path.join(tmpdir(), 'cuda-shards-'));
afterAll(() => rmSync(store, { recursive: true }));

const SLOT_TOKENS = 32;
const TOKENS = 9;

it('attends as the definition says, within halves, and keeps keys and values as halves', async () => {
  const request = {
    folder: goldenFolder('llama'),
    outStore: store,
    tp: 1,
    dtype: 'fp32',
    device: 'cuda',
  } as const;
  const { shardFolder: folder } = await partition(request);
  const manifest = await readManifest(folder);
  expect(manifest.deviceClass).toBe('cuda');
  expect(manifest.attend.cacheType).toBe('float16');
  const { headDim, numHeads, numKvHeads } = manifest.perRank;
  const kvColumns = numKvHeads * headDim;
  const made = (columns: number, seed: number): Float32Array =>
    Float32Array.from({ length: TOKENS * columns }, (_, at) => Math.sin((at + 1) * seed));
  const [query, key, value] = [made(numHeads * headDim, 12.9), made(kvColumns, 78.2), made(kvColumns, 37.7)];
  const session = await InferenceSession.create(readSegment(folder, 0, 'attend-whole'));
  const packed = (data: Float32Array) => new Tensor('float32', data, [1, TOKENS, data.length / TOKENS]);
  const cache = () => {
    const dims = [1, numKvHeads, SLOT_TOKENS, headDim];
    return new Tensor('float16', new Uint16Array(numKvHeads * SLOT_TOKENS * headDim), dims);
  };
  const out = await session.run({
    ...{ query: packed(query), key: packed(key), value: packed(value) },
    ...{ 'past-key': cache(), 'past-value': cache() },
    last: new Tensor('int32', Int32Array.of(TOKENS - 1), [1]),
    total: new Tensor('int32', Int32Array.of(TOKENS), [1]),
  });
  expect(out['present-key']?.type).toBe('float16');
  const shape = { headDim, numHeads, numKvHeads, softCap: null, window: null };
  const expected = referenceAttention(shape, { tokens: TOKENS, query, key, value });
  const seen = out.output?.data as Float32Array;
  expect(seen.length).toBe(expected.length);
  const worst = Math.max(...expected.map((one, at) => Math.abs(one - seen[at]!)));
  expect(worst).toBeLessThan(5e-3);
  expect(worst).toBeGreaterThan(0);
});
