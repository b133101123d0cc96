/**
 * `npm run check:device`: the one command that proves a GPU's device on a machine that has one.
 *
 * In      nothing: WebGPU; --cuda: CUDA, with the libraries that `shardserve gpu install` has fetched; --software: WebGPU on the GPU in software that
 *         the tests use
 * Out     a table; the last line is one sentence; exit code 0 only where every case is right
 * Limits  five minutes
 * Errors  no GPU, no Vulkan, no driver, no libraries: one sentence that names what is missing, exit code 1
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { loadConfig } from '../../server/config/load-config.js';
import { CudaDevice } from '../../shard-worker/device/cuda-device.js';
import type { RemoteDevice } from '../../shard-worker/device/device.js';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { CASES, type CheckedRow, checkDevice, checkTable, isRight } from './device-check.js';

const BUDGET_MS = 5 * 60 * 1000;

process.exitCode = await main();
// The GPU's threads would keep it.
process.exit();

async function main(): Promise<number> {
  const started = Date.now();
  if (process.argv.includes('--software')) {
    const { useSoftwareVulkan, WHY_NO_SOFTWARE_VULKAN } = await import('../support/software-vulkan.js');
    if (WHY_NO_SOFTWARE_VULKAN !== null) return refuse(WHY_NO_SOFTWARE_VULKAN);
    useSoftwareVulkan();
  }
  let device: RemoteDevice;
  try {
    device = process.argv.includes('--cuda') ? openCuda() : new WebgpuDevice({ logId: 'check' });
  } catch (error) {
    return refuse(ServingError.from(error).message);
  }
  const store = mkdtempSync(path.join(tmpdir(), 'check-device-'));
  try {
    const deadlineMs = started + BUDGET_MS;
    const onRow = ({ name, tp, verdict }: CheckedRow): void => console.error(`${name} tp ${tp}: ${verdict}`);
    const rows = await checkDevice({ device, store, deadlineMs, onRow });
    for (const line of checkTable(rows)) console.log(line);
    const right = rows.filter(isRight).length;
    console.log(
      `${right} of ${CASES.length} cases are right, in ${Math.round((Date.now() - started) / 1000)} s`,
    );
    return right === CASES.length ? 0 : 1;
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
}

/** @throws ServingError */
function openCuda(): RemoteDevice {
  const { cudaFolder } = loadConfig({ argv: ['-m', 'NONE'], env: process.env, cwd: process.cwd() }).server;
  return new CudaDevice({ folder: cudaFolder, gpu: 0, logId: 'check' });
}

function refuse(why: string): number {
  console.log(`The device cannot be checked: ${why}`);
  return 1;
}
