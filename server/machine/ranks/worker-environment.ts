/**
 * The environment of a worker: a short list, so that nothing a user sets for the server (keys, tokens) gets there.
 *
 * In      the server's environment
 * Out     the names of PASSED that it has; and how glibc lays memory out, unless the user says it
 */
import { kernelLibrary } from '../../../proto/kernel-library.js';

const PASSED = [
  'PATH',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'CUDA_VISIBLE_DEVICES',
  'NVIDIA_VISIBLE_DEVICES',
  // Where Vulkan's loader finds its drivers, which of them it takes, and what Dawn asks for.
  'VK_DRIVER_FILES',
  'VK_ICD_FILENAMES',
  'VK_LOADER_DRIVERS_SELECT',
  'XDG_RUNTIME_DIR',
  // What NCCL tells, and which ways between GPUs it takes: for those who look for a fault.
  'NCCL_DEBUG',
  'NCCL_P2P_DISABLE',
  'NCCL_SHM_DISABLE',
  'NCCL_SOCKET_IFNAME',
  'NODE_V8_COVERAGE',
  'SHARDSERVE_KERNELS',
  'SHARDSERVE_GPU_CAPTURE',
];

/** Weights are mapped files where our own kernels read them: one heap for all threads, and nothing of it is rounded up. */
const SMALL_HEAP = 'glibc.malloc.arena_max=1';

/**
 * Without them a step reads all packed weights once, hundreds of MB, which ONNX Runtime allocates in pieces of some MB: huge pages, all
 * pieces in one heap, so that no huge page ends with a piece, and one heap for all threads, since each would begin with a
 * huge page (shard-worker/README.md). Ignored by another C library, and where the system's transparent huge pages are off.
 * Source: glibc manual, "Memory Allocation Tunables".
 */
const WEIGHTS_IN_HEAP = [
  'glibc.malloc.hugetlb=1',
  'glibc.malloc.mmap_threshold=1073741824',
  'glibc.malloc.top_pad=16777216',
  'glibc.malloc.arena_max=1',
].join(':');

/** @param hasKernels this machine has our own kernels */
export function workerEnvironment(
  server: NodeJS.ProcessEnv,
  hasKernels = kernelLibrary() !== null,
): Record<string, string> {
  const passed = PASSED.flatMap((name) => {
    const value = server[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const ours = hasKernels ? SMALL_HEAP : WEIGHTS_IN_HEAP;
  return { ...Object.fromEntries(passed), GLIBC_TUNABLES: server.GLIBC_TUNABLES ?? ours };
}
