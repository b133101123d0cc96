/** The thread of nccl-join.ts: CUDA's current GPU is a thread's, so it is chosen here, then the group is joined. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadCudaFunctions } from './cuda-runtime.js';
import { check, loadNcclFunctions } from './nccl.js';
import type { JoinAnswer, JoinTask } from './nccl-join.js';

function join({ cudart, gpu, id, library, rank, worldSize }: JoinTask): JoinAnswer {
  try {
    const cuda = loadCudaFunctions(cudart);
    const code = cuda.cudaSetDevice(gpu);
    if (code !== 0) return { why: `CUDA cudaSetDevice: ${cuda.cudaGetErrorString(code)} (${code})` };
    const nccl = loadNcclFunctions(library);
    const comm = new BigUint64Array(new ArrayBuffer(8));
    check(nccl, 'ncclCommInitRank', nccl.ncclCommInitRank(comm, worldSize, { internal: id }, rank));
    return { comm: comm[0] ?? 0n };
  } catch (cause) {
    return { why: cause instanceof Error ? cause.message : String(cause) };
  }
}

parentPort?.postMessage(join(workerData as JoinTask));
