/**
 * Joining a group of NCCL's, in a thread of its own: the call returns when all ranks have made it, and nothing else ends it.
 *
 * In      the libraries, the GPU, the rank, the group's id
 * Out     the communicator, for any thread
 * Limits  a thread whose call does not return stays until the process is killed: its group's coordinator does that to a rank that failed
 * Errors  an Error in NCCL's words, or that the others did not come in time
 */
import { Worker } from 'node:worker_threads';

export interface JoinTask {
  /** NCCL's, CUDA's runtime. */
  library: string;
  cudart: string;
  gpu: number;
  rank: number;
  worldSize: number;
  id: Uint8Array;
}

export type JoinAnswer = { comm: bigint } | { why: string };

export function joinInThread(task: JoinTask, timeoutMs: number): Promise<bigint> {
  const { rank, worldSize } = task;
  const thread = new Worker(new URL('nccl-join-thread.js', import.meta.url), { workerData: task });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      thread.unref();
      reject(new Error(`rank ${rank} of ${worldSize}: the GPUs did not join within ${timeoutMs} ms`));
    }, timeoutMs);
    const fail = (why: Error): void => {
      clearTimeout(timer);
      reject(why);
    };
    thread.once('error', fail);
    thread.once('exit', (code) => fail(new Error(`the thread that joins the GPUs ended with ${code}`)));
    thread.once('message', (answer: JoinAnswer) => {
      clearTimeout(timer);
      if ('comm' in answer) resolve(answer.comm);
      else reject(new Error(answer.why));
    });
  });
}
