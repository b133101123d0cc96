/**
 * The WebGPU device on a GPU in software, at length: nine families over one rank and two, in float32 as transformers has them, in
 * 4 and 8 bits as transformers has them with the weights that these leave. Streams and servers: webgpu-streams.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { checkCase } from '../device/device-check.js';
import { RELATIVE_TOLERANCE } from '../support/golden-families.js';
import { describeOnSoftwareVulkan } from '../support/on-software-vulkan.js';
import { useSoftwareVulkan } from '../support/software-vulkan.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-long-'));
afterAll(() => rmSync(store, { recursive: true }));

describeOnSoftwareVulkan('webgpu', () => {
  let device: WebgpuDevice;
  beforeAll(() => {
    useSoftwareVulkan();
    device = new WebgpuDevice({ logId: 'long' });
  });

  const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2', 'gptj', 'gpt-neox', 'phi3', 'mixtral'];
  const cases = FAMILIES.flatMap((name) => [1, 2].map((tp) => ({ name, tp })));

  it.each(cases)("$name at tp $tp has transformers' tokens and logits", async (one) => {
    expect(await checkCase({ ...one, dtype: 'fp32' }, { device, store })).toMatchObject({ verdict: 'right' });
  });

  const rounded = (['int4', 'int8'] as const).flatMap((dtype) => cases.map((one) => ({ ...one, dtype })));
  it.each(rounded)('$name at tp $tp in $dtype has those of transformers with its weights', async (one) => {
    const row = await checkCase(one, { device, store });
    if (process.env.GOLDEN_REPORT) console.log(`${one.name} ${one.dtype} tp ${one.tp}: ${row.deviation}`);
    expect(row).toMatchObject({ verdict: 'right' });
    expect(row.deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
  });

  it.each([1, 2])('so has a head and queries, keys and values that stay at 8 bits, at tp %i', async (tp) => {
    const one = { name: 'llama', tp, dtype: 'int4', eightBit: ['head', 'qkv'] } as const;
    const row = await checkCase(one, { device, store });
    expect(row).toMatchObject({ verdict: 'right' });
    expect(row.deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
  });
});
