/**
 * The device of a rank, as its launch says.
 *
 * Errors  UNSUPPORTED_PLATFORM: this build has no such device, or the machine none
 */
import { ServingError } from '../../proto/errors.js';
import type { WorkerLaunch } from '../../proto/worker-launch.js';
import { CpuDevice } from './cpu-device.js';
import { CudaDevice } from './cuda-device.js';
import type { Device } from './device.js';
import { WebgpuDevice } from './webgpu-device.js';

export type DeviceLaunch = Pick<
  WorkerLaunch,
  'cudaFolder' | 'device' | 'gpus' | 'rank' | 'threads' | 'threadsSpin'
>;

/** @throws ServingError */
export function openDevice(launch: DeviceLaunch): Device {
  const { cudaFolder = '', device = 'cpu', gpus, rank, threads } = launch;
  const logId = `rank-${rank}`;
  switch (device) {
    case 'cpu':
      return new CpuDevice({ threads, threadsSpin: launch.threadsSpin ?? threads > 1, logId });
    case 'webgpu':
      return new WebgpuDevice({ logId });
    case 'cuda':
      return new CudaDevice({ folder: cudaFolder, gpu: gpus?.[rank] ?? 0, logId });
    default:
      throw new ServingError('UNSUPPORTED_PLATFORM', `device ${device} is not one of cpu, webgpu, cuda`);
  }
}
