/** `npm run check:device` as a user without a GPU sees it: one sentence that names what is missing, and exit code 1. Its golden step, on the CPU. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { CpuDevice } from '../../../shard-worker/device/cpu-device.js';
import type { RemoteDevice } from '../../../shard-worker/device/device.js';
import { deviceSteps } from '../../device/device-steps.js';
import { repositoryRoot } from '../../support/repository-root.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'check-device-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** Where the libraries are installed another thing is missing, or nothing. */
const hasLibraries = existsSync(path.join(repositoryRoot, '.cuda'));
const REFUSED: readonly (readonly [readonly string[], RegExp])[] = [
  [[], /no GPU is to be had by Vulkan\. It needs the Vulkan loader \(libvulkan\.so\.1/],
  [
    ['--cuda'],
    /device cuda: libraries are missing in .*libcudart\.so\.13.*shardserve gpu install puts them there$/,
  ],
];

it.each(REFUSED.slice(0, hasLibraries ? 1 : 2))('refuses with %j in one sentence', (flags, missing) => {
  const program = fileURLToPath(new URL('../../device/check.js', import.meta.url));
  const out = path.join(scratch, 'table.txt');
  const { status, stderr, stdout } = spawnSync(process.execPath, [program, ...flags, '--out', out], {
    ...{ encoding: 'utf8', cwd: scratch },
    env: { ...process.env, VK_ICD_FILENAMES: '/nonexistent/driver.json' },
  });
  expect([status, stderr]).toEqual([1, '']);
  const [sentence, ...more] = stdout.trimEnd().split('\n');
  expect(sentence).toMatch(/^The device cannot be checked: /);
  expect(sentence).toMatch(missing);
  expect(more).toEqual([]);
  expect(existsSync(out)).toBe(false);
});

it('takes a golden for right over two ranks, and tells what crossed', async () => {
  const counters = { uploadedBytes: 0, downloadedBytes: 0, runs: 0 };
  const device = Object.assign(new CpuDevice({ threads: 1, logId: 'check' }), { counters });
  const step = deviceSteps('software').find(({ name }) => name === 'llama fp32 tp 2')!;
  const context = {
    kind: 'software',
    store: scratch,
    freeBytes: () => 5,
    gpus: 0,
    cudaFolder: scratch,
  } as const;
  const row = await step.run({ ...context, device: device as never as RemoteDevice });
  expect(row).toMatchObject({
    name: 'llama',
    tp: 2,
    dtype: 'fp32',
    verdict: 'right',
    crossingBytes: 0,
    memoryBytes: 0,
  });
  expect(row.deviation).toBeLessThan(1e-5);
  expect(row.stepMs).toBeGreaterThan(0);
});
