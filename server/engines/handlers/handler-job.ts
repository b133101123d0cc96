/** A job of a handler: the request as it came. */
import { Job } from '../../jobs/job.js';
import type { InvokeRequest } from '../../requests/invoke-request.js';

/** Pieces of one streamed answer, its head and finish among them. */
export const MAX_PIECES = 65_536;

interface HandlerJobOptions {
  id: number;
  request: InvokeRequest;
  queuedAtMs: number;
  receivedAtMs: number;
}

export class HandlerJob extends Job {
  declare readonly request: InvokeRequest;
  /** All requests of a model go together: its handler says what becomes of them. */
  readonly batchKey = 'any';
  readonly rows = 1;
  /** Events pushed, and their bytes. */
  pieces = 0;
  bytes = 0;

  constructor(options: HandlerJobOptions) {
    super({ ...options, eventCapacity: MAX_PIECES });
  }
}
