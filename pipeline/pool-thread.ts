/**
 * One thread of a PipelinePool: the pack, loaded there.
 *
 * In      ToThread messages
 * Out     FromThread messages; the memory of tensors goes with them
 * Errors  an item's own
 */
import { parentPort, type TransferListItem, workerData } from 'node:worker_threads';
import { ServingError } from '../proto/errors.js';
import { load } from './pack.js';
import type { Feeds, Pipeline } from './pipeline.js';
import { type FromThread, packedValue, type ToThread, unpackedValue } from './pipeline-pool.js';
import { Tensor, type Value } from './pipeline-value.js';

const told = (error: unknown): { code: string; message: string } => {
  const { code, message } = ServingError.from(error);
  return { code, message };
};
const send = (message: FromThread, transfer: TransferListItem[] = []): void =>
  parentPort?.postMessage(message, transfer);

/** Memory that holds one tensor and nothing else. */
function buffersOf(value: Value, found: Set<ArrayBuffer>): void {
  if (value instanceof Tensor) {
    const { buffer, byteLength } = value.data;
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) found.add(buffer);
  } else if (Array.isArray(value)) {
    for (const one of value) if (typeof one === 'object') buffersOf(one as Value, found);
  } else if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) {
    for (const one of Object.values(value)) buffersOf(one as Value, found);
  }
}

async function answer(pipeline: Pipeline, { id, items }: ToThread): Promise<void> {
  const transfer = new Set<ArrayBuffer>();
  const answers = await Promise.all(
    items.map(async ({ feeds, how }) => {
      try {
        const output = await pipeline.run(unpackedValue(feeds) as Feeds, how);
        buffersOf(output, transfer);
        return { output: packedValue(output) };
      } catch (error) {
        return told(error);
      }
    }),
  );
  send({ kind: 'done', id, answers }, [...transfer]);
}

const { folder } = workerData as { folder: string };
load(folder).then(
  (pipeline) => {
    parentPort?.on('message', (message: ToThread) => void answer(pipeline, message));
    send({ kind: 'ready' });
  },
  (error: unknown) => send({ kind: 'refused', ...told(error) }),
);
