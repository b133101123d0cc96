/**
 * A session of onnxruntime-node in a process of its own, run over batches in a loop: what the server is measured beside.
 *
 * Run     forked by batching.ts, with an IPC channel; ends with it
 * In      {file, rows, width, threads} first; then {batches}, one at a time
 * Out     {ready}, then {ms, cpuMs} of each
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';

export type LoopCall =
  | { call: 'open'; file: string; rows: number; width: number; threads: number }
  | { call: 'run'; batches: number };
export interface LoopAnswer {
  ms: number;
  cpuMs: number;
}

let session: InferenceSession | null = null;
let feeds: Record<string, Tensor> = {};

async function answer(call: LoopCall): Promise<LoopAnswer> {
  if (call.call === 'open') {
    const { file, rows, threads, width } = call;
    session = await InferenceSession.create(file, { intraOpNumThreads: threads, logSeverityLevel: 3 });
    const values = Float32Array.from({ length: rows * width }, (_, at) => ((at * 37) % 101) / 101);
    feeds = { x: new Tensor('float32', values, [rows, width]) };
    await session.run(feeds);
    return { ms: 0, cpuMs: 0 };
  }
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  for (let at = 0; at < call.batches; at++) await session!.run(feeds);
  const ms = performance.now() - startedMs;
  const used = process.cpuUsage(cpu);
  return { ms, cpuMs: (used.user + used.system) / 1000 };
}

process.on('message', (call: LoopCall) => {
  void answer(call).then((told) => process.send?.(told));
});
process.on('disconnect', () => process.exit(0));
