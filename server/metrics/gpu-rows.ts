/**
 * GPUs of this machine, as NVIDIA's driver tells them at a scrape; without a driver there are no such series.
 *
 * Labels: `gpu`, the number by which load_on_devices names it
 */
import type { MetricRow, NumberRow } from './metric-rows.js';

/** null: the driver does not tell. */
export interface GpuReading {
  totalBytes: number | null;
  freeBytes: number | null;
  /** Share of the last moments in which something ran on it. */
  busyShare: number | null;
}

function row(name: string, help: string, value: (gpu: GpuReading) => number | null) {
  const made: NumberRow<readonly GpuReading[]> = {
    kind: 'gauge',
    name: `shardserve_gpu_${name}`,
    help,
    labels: ['gpu'],
    read: (gpus) =>
      gpus.flatMap((gpu, number) => {
        const seen = value(gpu);
        return seen === null ? [] : [{ labels: { gpu: number }, value: seen }];
      }),
  };
  return made;
}

export const GPU_ROWS: readonly MetricRow<readonly GpuReading[]>[] = [
  row('memory_bytes', 'Memory of a GPU.', ({ totalBytes }) => totalBytes),
  row('memory_used_bytes', 'Memory of a GPU in use, by whomever.', ({ freeBytes, totalBytes }) =>
    totalBytes === null || freeBytes === null ? null : totalBytes - freeBytes,
  ),
  row(
    'busy_ratio',
    'Share of the last moments in which something ran on a GPU.',
    ({ busyShare }) => busyShare,
  ),
];
