/**
 * One rank that adds by NCCL as a process of its own, forked by nccl.test.ts and by check:device: joins, does the sums it is told, each of what the one before
 * made, reads once, and reports. Messages by the fork channel.
 */
import { linkDevices } from '../../shard-worker/collective/link-devices.js';
import { connectSharedMemoryCollective } from '../../shard-worker/collective/shared-memory-group.js';
import { CudaRuntime, loadCudaFunctions } from '../../shard-worker/device/cuda-runtime.js';
import type { DeviceBuffer } from '../../shard-worker/device/device.js';
import { openNccl } from '../../shard-worker/device/nccl.js';
import { RemoteBuffer } from '../../shard-worker/device/remote-ort-device.js';

export interface RankTask {
  rank: number;
  worldSize: number;
  socketFolder: string;
  timeoutMs: number;
  joinTimeoutMs?: number;
  /** With both libraries. */
  folder: string;
  gpu: number;
  /** Sums to run before anything is read; and one more. */
  count: number;
  /** Stops before that one. */
  idleAtEnd: boolean;
}

export type RankReport =
  | { type: 'joined'; lines: string[]; isLinked: boolean }
  | { type: 'done'; values: number[]; counters: unknown; usASum: number }
  | { type: 'failed'; name: string; kind: string; peer: number | null; message: string };

const report = (message: RankReport): void => {
  process.send?.(message);
};

const FLOATS = 1000;

async function main(task: RankTask): Promise<void> {
  const cudart = `${task.folder}/libcudart.so.13`;
  const runtime = new CudaRuntime(loadCudaFunctions(cudart), task.gpu);
  const links = openNccl({ folder: task.folder, cudart, gpu: task.gpu, runtime });
  const host = await connectSharedMemoryCollective({ ...task, spinUs: 0 });
  const lines: string[] = [];
  const device = { deviceClass: 'cuda' as const, links };
  const say = (line: string): void => void lines.push(line);
  const collective = await linkDevices(host, { ...task, device, wanted: 'auto', say });
  const { onDevice } = collective;
  report({ type: 'joined', lines, isLinked: onDevice !== undefined });
  if (onDevice === undefined) return;
  const allocate = (): DeviceBuffer => {
    const address = runtime.allocate(FLOATS * 4);
    return new RemoteBuffer('float32', FLOATS, address, () => runtime.free(address));
  };
  const address = (buffer: DeviceBuffer): number => (buffer as RemoteBuffer).address;
  const [one, other] = [allocate(), allocate()];
  const values = new Float32Array(FLOATS).fill(task.rank + 1);
  runtime.upload(address(one), values, FLOATS * 4);
  const add = async (op: number): Promise<DeviceBuffer> => {
    const [from, to] = op % 2 === 0 ? [one, other] : [other, one];
    await onDevice.sumOnDevice({ step: 1, op }, from, to, FLOATS);
    return to;
  };
  let last = one;
  const started = performance.now();
  for (let op = 0; op < task.count; op++) last = await add(op);
  await onDevice.settle();
  runtime.download(address(last), values, FLOATS * 4);
  const usASum = Math.round(((performance.now() - started) * 1000) / task.count);
  const ends = [values[0]!, values[FLOATS - 1]!];
  report({ type: 'done', values: ends, counters: collective.counters, usASum });
  if (task.idleAtEnd) return;
  await add(task.count);
  await onDevice.settle();
  runtime.download(address(last), values, FLOATS * 4);
  await collective.close();
  process.disconnect();
}

process.once('message', (task: RankTask) => {
  main(task).catch((error: unknown) => {
    const {
      kind = '',
      message,
      name,
      peer = null,
    } = error as Error & { kind?: string; peer?: number | null };
    report({ type: 'failed', name, kind, message, peer });
  });
});
