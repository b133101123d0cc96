/**
 * Stubs of CUDA's runtime, NCCL and NVML (gpu-stub.c), compiled once a test file.
 *
 * Out     the folder with the three libraries, or why there is none: tests are then skipped under that name, and counted
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { repositoryRoot } from './repository-root.js';

const NAMES = ['libcudart.so.13', 'libnccl.so.2', 'libnvidia-ml.so.1'];

export interface GpuStub {
  folder: string;
  /** null: it is there. */
  why: string | null;
  remove(): void;
}

export function compileGpuStub(): GpuStub {
  const folder = mkdtempSync(path.join(tmpdir(), 'gpu-stub-'));
  const stub = { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
  const library = path.join(folder, 'libstub.so');
  const source = path.join(repositoryRoot, 'test/support/gpu-stub.c');
  const args = ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', library, source];
  const { error, status, stderr } = spawnSync('cc', args, { encoding: 'utf8' });
  if (error) return { ...stub, why: 'there is no C compiler (cc)' };
  if (status !== 0) throw new Error(stderr);
  for (const name of NAMES) symlinkSync(library, path.join(folder, name));
  return { ...stub, why: null };
}
