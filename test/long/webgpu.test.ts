/**
 * The WebGPU device on a GPU in software, at length: nine families over one rank and two, in float32 as transformers has them, in
 * 4 and 8 bits as transformers has them with the weights that these leave; and a server whose embedded model streams by it, over two ranks, the text that the CPU gives, also after a rank was
 * killed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { checkCase } from '../device/device-check.js';
import { RELATIVE_TOLERANCE } from '../support/golden-families.js';
import { ServerProcess } from '../support/server-process.js';
import { SOFTWARE_VULKAN, useSoftwareVulkan, WHY_NO_SOFTWARE_VULKAN } from '../support/software-vulkan.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-long-'));
let server: ServerProcess | undefined;
afterEach(() => server?.stop());
afterAll(() => rmSync(store, { recursive: true }));

const why = WHY_NO_SOFTWARE_VULKAN === null ? '' : ` (skipped: ${WHY_NO_SOFTWARE_VULKAN})`;

describe.skipIf(WHY_NO_SOFTWARE_VULKAN !== null)(`webgpu${why}`, () => {
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

async function start(environment: Record<string, string>): Promise<void> {
  server = await ServerProcess.start({ SERVING_SHARD_STORE: store, OPTION_DTYPE: 'fp32', ...environment });
}

async function streamed(): Promise<{ text: string; events: number }> {
  const prompt = 'Once upon a time there was a little';
  const body = { model: 'embedded', prompt, max_tokens: 12, temperature: 0, stream: true };
  const response = await fetch(`${server!.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  const events = (await response.text())
    .split('\n')
    .filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice(6)) as { choices: { text: string }[] });
  return { text: events.map(({ choices }) => choices[0]?.text ?? '').join(''), events: events.length };
}

it.skipIf(WHY_NO_SOFTWARE_VULKAN !== null)(
  `a server streams on webgpu what the CPU gives${why}`,
  async () => {
    await start({});
    const expected = await streamed();
    await server!.stop();
    const webgpu = { ...SOFTWARE_VULKAN, OPTION_DEVICE: 'webgpu', OPTION_STEP_TIMEOUT: '600' };
    await start({ ...webgpu, TENSOR_PARALLEL_DEGREE: '2', OPTION_MAX_MODEL_LEN: '128' });
    const seen = await streamed();
    expect(seen.text).toBe(expected.text);
    expect(seen.events).toBeGreaterThan(5);
    expect(server!.lines.some(({ msg }) => msg.startsWith('computed on webgpu'))).toBe(true);
    const [killed] = server!.workerPids;
    process.kill(killed!, 'SIGKILL');
    await server!.until(() => server!.workerPids[0] !== killed, 'another rank 0');
    expect((await streamed()).text).toBe(expected.text);
  },
);
