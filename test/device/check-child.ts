/** A process of `npm run check:device`: opens the device and runs the steps from one on. Started by check.ts alone. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { loadConfig } from '../../server/config/load-config.js';
import { gpuReport } from '../../server/machine/gpu-report.js';
import { CudaDevice } from '../../shard-worker/device/cuda-device.js';
import type { RemoteDevice } from '../../shard-worker/device/device.js';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { NO_FIGURES } from './device-check.js';
import { type DeviceKind, deviceSteps } from './device-steps.js';
import type { ChildMessage } from './run-steps.js';

const [kind, first] = [process.argv[2] as DeviceKind, Number(process.argv[3])];
const tell = (message: ChildMessage): Promise<void> =>
  new Promise((resolve) => {
    process.send?.(message, () => resolve());
  });

await main();
// The GPU's threads would keep it.
process.exit();

async function main(): Promise<void> {
  const { cudaFolder } = loadConfig({ argv: ['-m', 'NONE'], env: process.env, cwd: process.cwd() }).server;
  if (kind === 'software') {
    const { useSoftwareVulkan, WHY_NO_SOFTWARE_VULKAN } = await import('../support/software-vulkan.js');
    if (WHY_NO_SOFTWARE_VULKAN !== null) return tell({ refused: WHY_NO_SOFTWARE_VULKAN });
    useSoftwareVulkan();
  }
  let device: RemoteDevice;
  try {
    device =
      kind === 'cuda'
        ? new CudaDevice({ folder: cudaFolder, gpu: 0, logId: 'check' })
        : new WebgpuDevice({ logId: 'check' });
  } catch (error) {
    return tell({ refused: ServingError.from(error).message });
  }
  const report = gpuReport(process.env);
  const freeBytes = (): number | null => report.readAgain()[0]?.freeBytes ?? null;
  const store = mkdtempSync(path.join(tmpdir(), 'check-device-'));
  try {
    for (const step of deviceSteps(kind).slice(first)) {
      const context = { kind, device, store, freeBytes, cudaFolder, gpus: report.gpus.length };
      try {
        await tell({ row: await step.run(context) });
      } catch (error) {
        const verdict = error instanceof Error ? error.message : String(error);
        await tell({ row: { ...NO_FIGURES, name: step.name, verdict } });
      }
    }
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
}
