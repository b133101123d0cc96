/** Rows of a model's output as numbers, and chances of a row. Pure. */
import type { Tensor } from 'onnxruntime-node';

/** Along the last axis. */
export function rowsOf({ data, dims }: Tensor): number[][] {
  const width = dims.at(-1) ?? 1;
  const all = Array.from(data as ArrayLike<number | bigint>, Number);
  return Array.from({ length: width === 0 ? 0 : all.length / width }, (_, row) =>
    all.slice(row * width, (row + 1) * width),
  );
}

export function softmax(row: readonly number[]): number[] {
  const most = Math.max(...row);
  const powers = row.map((one) => Math.exp(one - most));
  const sum = powers.reduce((total, one) => total + one, 0);
  return powers.map((one) => one / sum);
}
