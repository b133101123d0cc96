/** A rank computes on the GPU that NVML's number, by which it was given it, means, whatever order CUDA would have (stub: the bus's reversed). */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { compileGpuStub } from '../../support/gpu-stub.js';

const GPUS = 4;
const GIB = 1024 ** 3;
const stub = compileGpuStub();
afterAll(() => stub.remove());
const why = stub.why === null ? '' : ` (skipped: ${stub.why})`;

it.skipIf(stub.why !== null).each([undefined, 'FASTEST_FIRST', 'PCI_BUS_ID'])(
  `NVML's numbers are CUDA's where CUDA_DEVICE_ORDER is %s${why}`,
  (order) => {
    const { CUDA_DEVICE_ORDER: _, ...inherited } = process.env;
    const env = {
      ...{ ...inherited, LD_LIBRARY_PATH: stub.folder, STUB_GPUS: String(GPUS) },
      ...(order !== undefined && { CUDA_DEVICE_ORDER: order }),
    };
    const child = fileURLToPath(new URL('../../support/gpu-order-child.js', import.meta.url));
    const runtime = path.join(stub.folder, 'libcudart.so.13');
    const { stderr, stdout } = spawnSync(process.execPath, [child, runtime], { encoding: 'utf8', env });
    expect(stderr).toBe('');
    const free = Array.from({ length: GPUS }, (_, gpu) => (80 - gpu - 1) * GIB);
    expect(stdout.trim().split('\n')).toEqual(free.map((bytes) => `${bytes} ${bytes}`));
  },
);
