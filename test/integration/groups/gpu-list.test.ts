/** `shardserve gpu list` over a stub of NVML (test/support/gpu-stub.c): the library's functions as C has them, and what is visible of eight GPUs. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { compileGpuStub } from '../../support/gpu-stub.js';
import { parsePrometheus, sampleValue } from '../../support/prometheus-text.js';
import { repositoryRoot } from '../../support/repository-root.js';
import { ServerProcess } from '../../support/server-process.js';

const stub = compileGpuStub();
afterAll(() => stub.remove());
const why = stub.why === null ? '' : ` (skipped: ${stub.why})`;

function list(environment: Record<string, string>): string[] {
  const program = path.join(repositoryRoot, 'server/shardserve.mjs');
  const env = { ...process.env, LD_LIBRARY_PATH: stub.folder, STUB_GPUS: '8', ...environment };
  const { stdout } = spawnSync(process.execPath, [program, 'gpu', 'list'], { encoding: 'utf8', env });
  return stdout.split('\n').filter((line) => line.startsWith('gpu') || line.startsWith('no '));
}

it.skipIf(stub.why !== null)(`lists the GPUs that the driver has and the environment leaves${why}`, () => {
  const all = list({});
  expect(all).toHaveLength(8);
  expect(all[2]).toBe('gpu2  Stub GPU, 77.0 of 80.0 GiB free');
  expect(list({ CUDA_VISIBLE_DEVICES: 'GPU-3,0' })).toEqual([
    'gpu0  Stub GPU, 77.0 of 80.0 GiB free',
    'gpu1  Stub GPU, 79.0 of 80.0 GiB free',
  ]);
  // The eighth is cut in two: a process sees one part alone.
  expect(list({ STUB_CUT: '1' })).toEqual(['gpu0  Stub GPU MIG 1g.10gb, 10.0 of 10.0 GiB free']);
  expect(list({ STUB_CUT: '1', CUDA_VISIBLE_DEVICES: '6,5' })).toHaveLength(2);
  expect(list({ NVIDIA_VISIBLE_DEVICES: 'void' })).toEqual([
    'no NVIDIA GPU is seen: 8 are hidden by CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES; models are computed on the CPU',
  ]);
});

it.skipIf(stub.why !== null)(
  `a server says what it computes on, and tells the GPUs' figures${why}`,
  async () => {
    const server = await ServerProcess.start({
      ...{
        LD_LIBRARY_PATH: stub.folder,
        STUB_GPUS: '8',
        CUDA_VISIBLE_DEVICES: '2,0',
        TENSOR_PARALLEL_DEGREE: '1',
      },
    });
    try {
      const { msg } = await server.line((line) => 'gpus' in line);
      expect(msg).toMatch(
        /^2 × Stub GPU, 80 GiB: models are computed on the CPU unless option\.device says cuda or webgpu, since/,
      );
      const samples = parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
      for (const [gpu, usedGib] of [3, 1].entries()) {
        const value = (name: string) => sampleValue(samples, `shardserve_gpu_${name}`, { gpu });
        expect([value('memory_bytes'), value('memory_used_bytes')]).toEqual([
          80 * 2 ** 30,
          usedGib * 2 ** 30,
        ]);
      }
      const described = await (await fetch(`${server.url}/models/embedded`)).text();
      expect(described).toMatch(/"device": ?"cpu"/);
    } finally {
      await server.stop();
    }
  },
);
