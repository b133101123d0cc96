/** WebGPU's bytes a step, exactly, on a GPU in software: of one sequence and of four, in floats and in 4 bits, over one rank and two. */
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { deviceBytes } from '../suites/device-bytes.suite.js';
import { describeOnSoftwareVulkan } from '../support/on-software-vulkan.js';
import { useSoftwareVulkan } from '../support/software-vulkan.js';

describeOnSoftwareVulkan('webgpu', () => {
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
