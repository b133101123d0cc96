/**
 * One piece of work for everybody who wants the same thing at the same time.
 *
 * In      a key, how to do the work, a signal a caller
 * Out     the one result; progress to every caller
 * Limits  an entry lives as long as its work
 * Errors  those of the work, for every caller; CANCELLED for a caller whose signal fires
 *
 * A caller that gives up leaves the others alone; the work is stopped when the last one has given up, and that one waits
 * until the work has cleaned up behind itself.
 */
import { cancelled } from './download-file.js';

type Work<T, P> = (signal: AbortSignal, onProgress: (progress: P) => void) => Promise<T>;

interface Entry<T, P> {
  result: Promise<T>;
  controller: AbortController;
  callers: Set<(progress: P) => void>;
}

export class SharedWork<T, P> {
  readonly #entries = new Map<string, Entry<T, P>>();

  /** @throws ServingError CANCELLED, and whatever the work throws */
  async join(
    key: string,
    signal: AbortSignal | undefined,
    onProgress: (progress: P) => void,
    work: Work<T, P>,
  ): Promise<T> {
    if (signal?.aborted) throw cancelled(signal.reason);
    let entry = this.#entries.get(key);
    while (entry?.controller.signal.aborted) {
      await entry.result.catch(() => undefined);
      entry = this.#entries.get(key);
    }
    entry ??= this.#start(key, work);
    return await this.#wait(entry, signal, (progress) => onProgress(progress));
  }

  #start(key: string, work: Work<T, P>): Entry<T, P> {
    const controller = new AbortController();
    const callers = new Set<(progress: P) => void>();
    const result = work(controller.signal, (progress) => {
      for (const tell of callers) tell(progress);
    }).finally(() => this.#entries.delete(key));
    // A caller that has given up does not hear of it.
    result.catch(() => undefined);
    const entry = { result, controller, callers };
    this.#entries.set(key, entry);
    return entry;
  }

  async #wait(entry: Entry<T, P>, signal: AbortSignal | undefined, tell: (progress: P) => void): Promise<T> {
    const { callers, controller, result } = entry;
    callers.add(tell);
    let onAbort = (): void => undefined;
    const givenUp = new Promise<never>((_, reject) => {
      onAbort = () => {
        callers.delete(tell);
        if (callers.size > 0) return reject(cancelled(signal?.reason));
        controller.abort();
        const leave = (): void => reject(cancelled(signal?.reason));
        return void result.then(leave, leave);
      };
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      return await Promise.race([result, givenUp]);
    } finally {
      callers.delete(tell);
      signal?.removeEventListener('abort', onAbort);
    }
  }
}
