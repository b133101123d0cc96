/**
 * A pack on several threads, off the event loop of whoever asks.
 *
 * In      a pack's folder; feeds
 * Out     `run`: one answer; `map`: answers in the order of their feeds
 * Limits  as many threads as asked for; CHUNK items are sent to a thread together
 * Errors  as Pipeline's; an item that fails fails map() with its place. A thread that dies fails what it had
 */
import { Worker } from 'node:worker_threads';
import { ServingError } from '../proto/errors.js';
import type { Feeds } from './pipeline.js';
import { Tensor, type TensorData, type TensorKind, type Value } from './pipeline-value.js';
import type { RunMode } from './run-mode.js';

const CHUNK = 64;
const PROGRAM = new URL('./pool-thread.js', import.meta.url);

/** What passes between threads: a tensor's class does not. */
export type PlainTensor = { $tensor: { kind: TensorKind; shape: readonly number[]; data: TensorData } };
export type ToThread = { id: number; items: { feeds: Value; how: RunMode }[] };
export type FromThread =
  | { kind: 'ready' }
  | { kind: 'refused'; code: string; message: string }
  | { kind: 'done'; id: number; answers: ({ output: Value } | { code: string; message: string })[] };
type Answers = Extract<FromThread, { kind: 'done' }>['answers'];

interface Thread {
  worker: Worker;
  running: Map<number, { resolve: (answers: Answers) => void; reject: (error: Error) => void }>;
}

export class PipelinePool {
  readonly #threads: readonly Thread[];
  #nextId = 1;

  private constructor(threads: readonly Thread[]) {
    this.#threads = threads;
  }

  /** @throws ServingError CHECKPOINT_INVALID */
  static async open(folder: string, { threads = 1 }: { threads?: number } = {}): Promise<PipelinePool> {
    const opened = await Promise.allSettled(Array.from({ length: threads }, () => openThread(folder)));
    const ready = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const pool = new PipelinePool(ready);
    const failed = opened.find((one) => one.status === 'rejected');
    if (failed === undefined) return pool;
    await pool.close();
    throw failed.reason;
  }

  /** @throws ServingError */
  async run(feeds: Feeds, how: RunMode = {}): Promise<Value> {
    const [answer] = await this.#send([{ feeds, how }]);
    if ('output' in answer!) return unpackedValue(answer.output);
    throw ServingError.told(answer!);
  }

  /** @param how of each; its seed is that of the first, and one more for each after it. @throws ServingError */
  async map(items: readonly Feeds[], how: RunMode = {}): Promise<Value[]> {
    const starts = Array.from({ length: Math.ceil(items.length / CHUNK) }, (_, at) => at * CHUNK);
    const chunks = await Promise.all(
      starts.map((start) =>
        this.#send(
          items.slice(start, start + CHUNK).map((feeds, at) => ({
            feeds,
            how: how.seed === undefined ? how : { ...how, seed: how.seed + start + at },
          })),
        ),
      ),
    );
    return chunks.flat().map((answer, at) => {
      if ('output' in answer) return unpackedValue(answer.output);
      throw ServingError.told({ ...answer, message: `Item ${at}: ${answer.message}` });
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  /** To the thread that has least to do. */
  #send(items: readonly { feeds: Feeds; how: RunMode }[]): Promise<Answers> {
    const [first, ...others] = this.#threads;
    const thread = others.reduce(
      (least, one) => (one.running.size < least.running.size ? one : least),
      first!,
    );
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      thread.running.set(id, { resolve, reject });
      const message: ToThread = {
        id,
        items: items.map(({ feeds, how }) => ({ feeds: packedValue(feeds as Value), how })),
      };
      thread.worker.postMessage(message);
    });
  }
}

function openThread(folder: string): Promise<Thread> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(PROGRAM, { workerData: { folder } });
    const thread: Thread = { worker, running: new Map() };
    const gone = (error: Error): void => {
      reject(error);
      for (const { reject: fail } of thread.running.values()) fail(error);
      thread.running.clear();
    };
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'ready') resolve(thread);
      else if (message.kind === 'refused') {
        void worker.terminate();
        reject(ServingError.told(message));
      } else {
        thread.running.get(message.id)?.resolve(message.answers);
        thread.running.delete(message.id);
      }
    });
    worker.once('error', gone);
    worker.once('exit', () => gone(new ServingError('WORKER_FAILED', 'A thread of the pipeline has ended')));
  });
}

/** Tensors as plain objects. */
export function packedValue(value: Value): Value {
  if (value instanceof Tensor) {
    const { data, kind, shape } = value;
    return { $tensor: { kind, shape, data } } satisfies PlainTensor as unknown as Value;
  }
  return mapped(value, packedValue);
}

export function unpackedValue(value: Value): Value {
  const { $tensor } = (typeof value === 'object' && value !== null ? value : {}) as Partial<PlainTensor>;
  if ($tensor !== undefined) return new Tensor($tensor.kind, $tensor.shape, $tensor.data);
  return mapped(value, unpackedValue);
}

function mapped(value: Value, act: (value: Value) => Value): Value {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) {
    // Texts and numbers pass as they are: most lists hold nothing else.
    return value.some((one) => typeof one === 'object' && one !== null) ? value.map(act) : value;
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, act(one as Value)]));
}
