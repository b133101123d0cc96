/**
 * The stream between the batch loop, which pushes events, and one reader, which iterates over them.
 *
 * In      push, then end or fail, by the loop; it never waits for the reader
 * Out     an async iterator for ONE reader; leaving its loop early calls `onAbandoned`, once
 * Limits  `capacity` events: a reader that takes nothing finds them all (a request's events are bounded by its new tokens)
 * Errors  fail(error): the reader gets the events that came before, then the error
 */
import assert from 'node:assert/strict';
import type { ServingError } from '../../proto/errors.js';
import type { FinishEvent, JobEvent } from '../requests/job-events.js';

export interface JobStreamOptions {
  /** Events that may lie unread. */
  capacity: number;
  /** The reader left before the end. */
  onAbandoned: () => void;
  /** Nothing more will come, for good or ill. */
  onEnded: () => void;
}

export class JobStream implements AsyncIterable<JobEvent> {
  readonly #options: JobStreamOptions;
  readonly #events: JobEvent[] = [];
  #ended = false;
  #begun = false;
  #error: ServingError | null = null;
  #wakeReader: (() => void) | null = null;
  #taken = false;
  #finish: FinishEvent | null = null;

  constructor(options: JobStreamOptions) {
    this.#options = options;
  }

  /** Nothing more will come. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Something of the answer has been told. */
  get begun(): boolean {
    return this.#begun;
  }

  /** How it ended; null while it has not. */
  get ending(): FinishEvent | ServingError | null {
    return this.#error ?? this.#finish;
  }

  push(event: JobEvent): void {
    assert(!this.#ended, 'a stream that has ended takes no event');
    const { capacity } = this.#options;
    assert(this.#events.length < capacity, `more than ${capacity} events in a stream`);
    this.#events.push(event);
    this.#begun = true;
    if (event.kind === 'finish') this.#finish = event;
    this.#wake();
  }

  end(): void {
    assert(!this.#ended, 'a stream ends once');
    this.#close();
  }

  /** Ends the stream with an error; nothing happens if it has ended already. */
  fail(error: ServingError): void {
    if (this.#ended) return;
    this.#error = error;
    this.#close();
  }

  [Symbol.asyncIterator](): AsyncIterator<JobEvent> {
    assert(!this.#taken, 'a stream has one reader');
    this.#taken = true;
    return {
      next: () => this.#next(),
      return: async () => {
        if (!this.#ended) this.#options.onAbandoned();
        this.#events.length = 0;
        return { done: true, value: undefined };
      },
    };
  }

  async #next(): Promise<IteratorResult<JobEvent>> {
    for (;;) {
      const event = this.#events.shift();
      if (event) return { done: false, value: event };
      if (this.#error) throw this.#error;
      if (this.#ended) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
  }

  #close(): void {
    this.#ended = true;
    this.#wake();
    this.#options.onEnded();
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }
}
