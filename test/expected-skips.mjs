/**
 * The tests that may be skipped, and on which machines: a skip that is not expected here fails the run.
 *
 * In      the report of vitest: names of files and tests
 * Out     skips nobody expects, a sentence each
 * Limits  plain JavaScript: test/run.mjs reads it before anything is built
 */
import { existsSync } from 'node:fs';
import { imageObstacle } from '../docker/image-folder.mjs';

const HAS_KERNELS = process.arch === 'x64' && process.env.SHARDSERVE_KERNELS !== 'off';
const HAS_HUGE_PAGES = existsSync('/sys/kernel/mm/transparent_hugepage');

/** File of dist/test → when its skipped tests are expected. */
const EXPECTED = new Map([
  ['integration/models/batch-invariance.test.js', !HAS_KERNELS],
  ['integration/partitioner/calibration.test.js', !HAS_KERNELS],
  ['integration/partitioner/native-packer.test.js', !HAS_KERNELS],
  ['unit/shard-worker/native-attention.test.js', !HAS_KERNELS],
  ['integration/kernels/scan.test.js', !HAS_KERNELS],
  ['e2e/kernels-off.test.js', !HAS_KERNELS],
  ['integration/kernels/native-memory.test.js', !HAS_HUGE_PAGES],
  // Mounts and chroot, which need root.
  ['e2e/container-image.test.js', imageObstacle() !== null],
  // Compilers and emulators that only some machines have.
  ['long/kernels-sanitised.test.js', true],
  ['long/attention-fuzz.test.js', true],
  // The pinned compiler of the kernels, named by ZIG.
  ['integration/kernels/prebuilt.test.js', !process.env.ZIG],
  // A C compiler, for the stub of the libraries.
  ['integration/collective/nccl.test.js', true],
  ['integration/groups/gpu-list.test.js', true],
  // A Vulkan device in software, which is fetched.
  ['integration/models/webgpu.test.js', true],
  ['e2e/webgpu.test.js', true],
  ['long/webgpu.test.js', true],
  ['long/webgpu-streams.test.js', true],
  ['long/webgpu-bytes.test.js', true],
  ['long/webgpu-capture.test.js', true],
  // A control group of memory, a mount namespace: where the machine permits them.
  ['e2e/faults.test.js', true],
  ['long/exhausted.test.js', true],
  // Python's packages that are fetched.
  ['long/python-clients.test.js', true],
  // Chromium.
  ['long/tuner-report.test.js', true],
  ['long/joint-model.test.js', true],
  ['long/pipeline-python.test.js', true],
  // A model that is fetched.
  ['real/real-model.test.js', true],
]);

/** @param skipped `{ file, name }` of each skipped test; the file as vitest names it */
export function unexpectedSkips(skipped) {
  return skipped
    .filter(({ file }) => EXPECTED.get(file.split('/dist/test/').at(-1)) !== true)
    .map(
      ({ file, name }) =>
        `skipped, which nobody expects on this machine: ${file.split('/dist/test/').at(-1)}: ${name}`,
    );
}
