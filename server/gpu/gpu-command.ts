/**
 * `shardserve gpu list | install`: the GPUs that models may be computed on, and the libraries that CUDA's device loads.
 *
 * In      arguments; the configuration that the server would have (cuda_dir); PIP_INDEX_URL
 * Out     lines on standard output; exit code 1 where there is no GPU or the libraries could not be had
 * Errors  CONFIG_INVALID: of the configuration; those of install-cuda.ts
 */
import { parseArgs } from 'node:util';
import { missingCudaFiles } from '../../proto/cuda-libraries.js';
import { loadConfig } from '../config/load-config.js';
import { gpuReport } from '../machine/gpu-report.js';
import { CUDA_PACKAGES } from './cuda-packages.js';
import { installCuda } from './install-cuda.js';

const HELP = `Usage: shardserve gpu list                      the GPUs that this server may use, and whether CUDA's libraries are there
       shardserve gpu install [--index URL]      fetch them (${megabytes()} MB) into cuda_dir from a Python package index, as pip's
                                                 --index-url has it; default: PIP_INDEX_URL
       shardserve gpu install --from DIR         take them from wheels in a folder: ${CUDA_PACKAGES.map(({ name, version }) => `${name}==${version}`).join(', ')}`;

export async function main(argv: readonly string[]): Promise<number> {
  const [command = '', ...rest] = argv;
  const { values } = parseArgs({
    args: [...rest],
    options: { index: { type: 'string' }, from: { type: 'string' } },
  });
  const { cudaFolder } = loadConfig({ argv: ['-m', 'NONE'], env: process.env, cwd: process.cwd() }).server;
  switch (command) {
    case 'list':
      return list(cudaFolder);
    case 'install': {
      const { from = null, index = process.env.PIP_INDEX_URL ?? null } = values;
      if (from === null && index === null) {
        console.log(`gpu install needs --index, PIP_INDEX_URL or --from\n\n${HELP}`);
        return 2;
      }
      await installCuda({ folder: cudaFolder, index, from, print: (line) => console.log(line) });
      console.log(`CUDA's libraries are in ${cudaFolder}: option.device=cuda`);
      return 0;
    }
    default:
      console.log(HELP);
      return 2;
  }
}

function list(folder: string): number {
  const { gpus, sentence } = gpuReport(process.env);
  for (const [number, { freeBytes, name, totalBytes }] of gpus.entries()) {
    const memory = totalBytes === null ? '' : `, ${gib(freeBytes ?? 0)} of ${gib(totalBytes)} GiB free`;
    console.log(`gpu${number}  ${name}${memory}`);
  }
  if (gpus.length === 0) console.log(sentence);
  const missing = missingCudaFiles(folder);
  console.log(
    missing.length === 0
      ? `CUDA's libraries are in ${folder}`
      : `CUDA's libraries are not in ${folder}: shardserve gpu install`,
  );
  return gpus.length > 0 && missing.length === 0 ? 0 : 1;
}

const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);

function megabytes(): number {
  return Math.ceil(CUDA_PACKAGES.reduce((sum, { bytes }) => sum + bytes, 0) / 1_000_000);
}
