/**
 * Where the library of our own kernels is, if this machine has one: what writes shards and what runs them ask the same question.
 *
 * In      this machine's system and architecture; SHARDSERVE_KERNELS=off: as if there were none
 * Out     path of shard-worker/kernels/prebuilt/linux-ARCH/libshardserve-kernels.so; null: weights are laid out for ONNX Runtime's operators
 */
import { existsSync } from 'node:fs';
import { arch, env, platform } from 'node:process';
import { fileURLToPath } from 'node:url';

const NAME = 'libshardserve-kernels.so';

export function kernelLibrary(): string | null {
  if (env.SHARDSERVE_KERNELS === 'off') return null;
  // The compiled code runs from dist/proto/, the sources from proto/.
  const places = ['../', '../../'].map((up) =>
    fileURLToPath(new URL(`${up}shard-worker/kernels/prebuilt/${platform}-${arch}/${NAME}`, import.meta.url)),
  );
  return places.find((file) => existsSync(file)) ?? null;
}
