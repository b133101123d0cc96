/**
 * What the server and the process that runs an ONNX model say to each other, over the process's channel (structured clone).
 *
 * A process is told its model first and answers with its signature; then it answers each batch, in order.
 */
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';

/** ONNX Runtime's session options that a model's configuration sets. */
export interface SessionOptions {
  intraOpThreads: number;
  interOpThreads: number;
  optimisation: 'disabled' | 'basic' | 'extended' | 'all';
  parallel: boolean;
  /** 0: as much as there is. */
  memoryMb: number;
}

export type ToOnnx =
  | { kind: 'load'; file: string; options: SessionOptions }
  | { kind: 'run'; id: number; inputs: readonly NamedTensor[]; outputs: readonly string[] | null };

export type FromOnnx =
  | { kind: 'loaded'; signature: Signature }
  | { kind: 'failed'; message: string }
  | { kind: 'ran'; id: number; outputs: readonly NamedTensor[]; us: number }
  /** The model refused these inputs: nothing is wrong with the process. */
  | { kind: 'refused'; id: number; message: string };
