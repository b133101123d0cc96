/** A model that shall compute on a GPU where there is none: the server says in words what is missing (test/long streams by one). */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ServerProcess } from '../support/server-process.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-e2e-'));
afterAll(() => rmSync(store, { recursive: true }));

it('says in words that there is no GPU', async () => {
  const refused = await ServerProcess.start({
    ...{ SERVING_SHARD_STORE: store, OPTION_DTYPE: 'fp32', OPTION_DEVICE: 'webgpu' },
    VK_ICD_FILENAMES: '/nonexistent/driver.json',
  }).catch((error: Error) => error);
  expect(String(refused)).toContain('no GPU is to be had by Vulkan');
});
