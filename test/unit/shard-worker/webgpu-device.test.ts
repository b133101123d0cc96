/** shard-worker/device/webgpu-device.ts: what is told where there is no GPU. */
import { expect, it } from 'vitest';
import { openDevice } from '../../../shard-worker/device/open-device.js';
import { whyNoAdapter } from '../../../shard-worker/device/webgpu-device.js';

it('names the loader and the driver where Vulkan finds no adapter', () => {
  const message = whyNoAdapter(
    'webgpu_context.cc:136 Initialize() status == Success was false. Failed to get a WebGPU adapter: No supported adapters\n',
  );
  expect(message).toContain('libvulkan1');
  expect(message).toContain('(ONNX Runtime: Failed to get a WebGPU adapter: No supported adapters)');
  expect(message).not.toContain('\n');
});

it('tells a library without the provider from a machine without a GPU', () => {
  expect(whyNoAdapter('WebGPU execution provider is not supported in this build.')).toContain(
    `ONNX Runtime for linux-${process.arch} has no WebGPU provider`,
  );
});

it('refuses a device that there is not', () => {
  const launch = { device: 'tpu' as 'cpu', rank: 0, threads: 1 };
  expect(() => openDevice(launch)).toThrow('device tpu is not one of cpu, webgpu, cuda');
});
