/** server/machine/visible-gpus.ts, nvml.ts, gpu-report.ts: which GPUs there are, which may be used, what is said of them. */
import { describe, expect, it } from 'vitest';
import { gpuSentence } from '../../../../server/machine/gpu-report.js';
import { type NvmlFunctions, openNvml } from '../../../../server/machine/nvml.js';
import { visibleGpus } from '../../../../server/machine/visible-gpus.js';

const MIB = 1024 * 1024;

/** A driver with some GPUs. */
function fakeDriver(count: number, failing: Partial<NvmlFunctions> = {}): NvmlFunctions {
  const write = (out: Uint8Array, text: string): number => {
    out.set(new TextEncoder().encode(`${text}\0`));
    return 0;
  };
  return {
    init: () => 0,
    count: (out) => {
      out[0] = count;
      return 0;
    },
    handle: (index, out) => {
      out[0] = BigInt(100 + index);
      return 0;
    },
    name: (_, out) => write(out, 'NVIDIA H200'),
    uuid: (device, out) => write(out, `GPU-${device}-abc`),
    memory: (_, out) => {
      out.set([BigInt(1000 * MIB), BigInt(900 * MIB), BigInt(100 * MIB)]);
      return 0;
    },
    utilisation: (_, out) => {
      out.set([40, 7]);
      return 0;
    },
    migMode: () => 3,
    migCount: () => 3,
    migHandle: () => 3,
    ...failing,
  };
}

const gpus = openNvml(() => fakeDriver(4)).nvml!.gpus();

describe('NVML', () => {
  it('tells name, UUID, memory and use of each GPU', () => {
    expect(gpus).toHaveLength(4);
    expect(gpus[3]).toEqual({
      ...{ index: 3, name: 'NVIDIA H200', uuid: 'GPU-103-abc' },
      ...{ totalBytes: 1000 * MIB, freeBytes: 900 * MIB, busyShare: 0.4 },
    });
  });

  it('leaves out a GPU that has fallen off the bus', () => {
    expect(openNvml(() => fakeDriver(1, { handle: () => 15 })).nvml!.gpus()).toEqual([]);
  });

  it('tells the parts of a GPU that is cut in its place', () => {
    const cut: Partial<NvmlFunctions> = {
      migMode: (device, current) => {
        current[0] = device === 101n ? 1 : 0;
        return 0;
      },
      migCount: (_, out) => {
        out[0] = 7;
        return 0;
      },
      // Two of seven places are taken.
      migHandle: (_, index, out) => {
        out[0] = BigInt(200 + index);
        return index < 2 ? 0 : 6;
      },
      uuid: (device, out) => {
        out.set(new TextEncoder().encode(`${device >= 200n ? 'MIG' : 'GPU'}-${device}\0`));
        return 0;
      },
      utilisation: (device) => (device >= 200n ? 3 : 0),
    };
    const found = openNvml(() => fakeDriver(3, cut)).nvml!.gpus();
    expect(found.map(({ index, uuid }) => [index, uuid])).toEqual([
      [0, 'GPU-100'],
      [1, 'MIG-200'],
      [1, 'MIG-201'],
      [2, 'GPU-102'],
    ]);
    expect(found[1]).toMatchObject({ totalBytes: 1000 * MIB, busyShare: null });
    // A process sees one part, and no whole GPU beside it.
    const seen = (environment: Record<string, string>) =>
      visibleGpus(found, environment).map(({ uuid }) => uuid);
    expect(seen({})).toEqual(['MIG-200']);
    expect(seen({ CUDA_VISIBLE_DEVICES: 'MIG-201,MIG-200' })).toEqual(['MIG-201']);
    expect(seen({ CUDA_VISIBLE_DEVICES: '0,2' })).toEqual(['GPU-100', 'GPU-102']);
    expect(seen({ CUDA_VISIBLE_DEVICES: 'MIG-9' })).toEqual([]);
  });

  it('says why there are no GPUs', () => {
    const missing = openNvml(() => {
      throw new Error('cannot open shared object file');
    });
    expect(missing).toEqual({ nvml: null, why: 'no NVIDIA driver (libnvidia-ml.so.1)' });
    const broken = openNvml(() => fakeDriver(1, { init: () => 9 }));
    expect(broken.why).toBe("NVIDIA's driver does not answer (NVML error 9)");
  });
});

describe('visibleGpus', () => {
  const chosen = (environment: Record<string, string>): number[] =>
    visibleGpus(gpus, environment).map(({ index }) => index);

  it('is all where nobody says otherwise', () => {
    expect(chosen({})).toEqual([0, 1, 2, 3]);
    expect(chosen({ NVIDIA_VISIBLE_DEVICES: 'all' })).toEqual([0, 1, 2, 3]);
  });

  it('takes CUDA_VISIBLE_DEVICES in its order, by number or UUID, up to what there is not', () => {
    expect(chosen({ CUDA_VISIBLE_DEVICES: '2,0' })).toEqual([2, 0]);
    expect(chosen({ CUDA_VISIBLE_DEVICES: 'GPU-103,1' })).toEqual([3, 1]);
    expect(chosen({ CUDA_VISIBLE_DEVICES: '1,7,0' })).toEqual([1]);
    expect(chosen({ CUDA_VISIBLE_DEVICES: '1,1' })).toEqual([1]);
    expect(chosen({ CUDA_VISIBLE_DEVICES: '-1' })).toEqual([]);
    expect(chosen({ CUDA_VISIBLE_DEVICES: '' })).toEqual([]);
  });

  it('is none where the container has none', () => {
    for (const word of ['void', 'none', '']) expect(chosen({ NVIDIA_VISIBLE_DEVICES: word })).toEqual([]);
  });
});

describe('gpuSentence', () => {
  it('counts GPUs alike, with their memory', () => {
    expect(gpuSentence(gpus, '')).toMatch(/^4 × NVIDIA H200, 1 GiB: models are computed on the CPU unless/);
  });

  it('says why there are none', () => {
    expect(gpuSentence([], 'no NVIDIA driver')).toBe(
      'no NVIDIA GPU is seen: no NVIDIA driver; models are computed on the CPU',
    );
  });
});
