/** server/machine/gpu-shares.ts: a machine of eight GPUs dealt out to worker groups. */
import { describe, expect, it } from 'vitest';
import { GpuShares } from '../../../../server/machine/gpu-shares.js';

describe('GpuShares of eight GPUs', () => {
  it('has four groups of two on pairs that share none', () => {
    const shares = new GpuShares(8);
    expect(shares.groups(2, null)).toBe(4);
    const groups = Array.from({ length: 4 }, () => shares.take(2, null).devices);
    expect(groups).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
      [6, 7],
    ]);
    expect(shares.free).toBe(0);
    expect(() => shares.take(2, null)).toThrow(
      'A worker group needs 2 GPUs, but of 8 that it may have 0 are free',
    );
  });

  it('has one group of four on those that load_on_devices names', () => {
    const shares = new GpuShares(8);
    const allowed = [0, 1, 2, 3];
    expect(shares.groups(4, allowed)).toBe(1);
    expect(shares.take(4, allowed).devices).toEqual([0, 1, 2, 3]);
    expect(() => shares.take(4, allowed)).toThrow('of 4 that it may have 0 are free');
    expect(shares.take(4, null).devices).toEqual([4, 5, 6, 7]);
  });

  it('refuses more than there are, and a GPU that there is not, with the counts', () => {
    const shares = new GpuShares(8);
    expect(() => shares.groups(9, null)).toThrow(
      'tensor_parallel_degree 9 needs as many GPUs, but there are 8',
    );
    expect(() => shares.groups(4, [0, 1])).toThrow('but load_on_devices names 2 of 8');
    expect(() => shares.take(1, [7, 8])).toThrow('load_on_devices names GPU 8, but there are 8');
    expect(() => new GpuShares(1).groups(2, null)).toThrow('but there is 1');
  });

  it('gives a group that starts again the GPUs that the one before gave back, once', () => {
    const shares = new GpuShares(8);
    const first = shares.take(2, null);
    const second = shares.take(2, null);
    first.giveBack();
    first.giveBack();
    expect(shares.take(2, null).devices).toEqual(first.devices);
    first.giveBack();
    expect(shares.take(2, null).devices).toEqual([4, 5]);
    expect(second.devices).toEqual([2, 3]);
  });

  it('takes GPUs apart from each other where no row of neighbours is whole', () => {
    const shares = new GpuShares(4);
    shares.take(1, [1]);
    shares.take(1, [2]);
    expect(shares.take(2, null).devices).toEqual([0, 3]);
  });
});
