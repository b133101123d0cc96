/** A job of an ONNX model: its tensors, checked against the signature and in its order. */
import { Job } from '../../jobs/job.js';
import type { NamedTensor, PredictRequest } from '../../requests/predict-request.js';
import type { AxisLengths } from './padding.js';

export interface OnnxJobOptions {
  id: number;
  request: PredictRequest;
  inputs: readonly NamedTensor[];
  /** Goes with jobs of the same key; null: alone. */
  batchKey: string | null;
  /** Along the first axis. */
  rows: number;
  /** Lengths of what is filled up in a batch. */
  lengths: AxisLengths;
  queuedAtMs: number;
  receivedAtMs: number;
}

export class OnnxJob extends Job {
  declare readonly request: PredictRequest;
  readonly inputs: readonly NamedTensor[];
  readonly batchKey: string | null;
  readonly rows: number;
  readonly lengths: AxisLengths;

  constructor(options: OnnxJobOptions) {
    // The value and the finish.
    super({ ...options, eventCapacity: 2 });
    this.inputs = options.inputs;
    this.batchKey = options.batchKey;
    this.rows = options.rows;
    this.lengths = options.lengths;
  }
}
