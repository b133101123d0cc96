/** WebGPU's bytes a step, exactly, on a GPU in software: of one sequence and of four, in floats and in 4 bits, over one rank and two. */
import { describe } from 'vitest';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { deviceBytes } from '../suites/device-bytes.suite.js';
import { useSoftwareVulkan, WHY_NO_SOFTWARE_VULKAN } from '../support/software-vulkan.js';

const why = WHY_NO_SOFTWARE_VULKAN === null ? '' : ` (skipped: ${WHY_NO_SOFTWARE_VULKAN})`;

describe.skipIf(WHY_NO_SOFTWARE_VULKAN !== null)(`webgpu${why}`, () => {
  let device: WebgpuDevice | null = null;
  const open = (): WebgpuDevice => {
    useSoftwareVulkan();
    device ??= new WebgpuDevice({ logId: 'bytes' });
    return device;
  };
  const sequences = [1, 4];
  deviceBytes(open, [
    { name: 'llama', tp: 1, dtype: 'fp32', sequences },
    { name: 'llama', tp: 2, dtype: 'int4', sequences },
    { name: 'gpt2', tp: 1, dtype: 'int4', sequences },
    { name: 'gpt2', tp: 2, dtype: 'fp32', sequences },
  ]);
});
