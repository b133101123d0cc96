/**
 * Two models on one server: what each can do alone, how long its requests wait at half of that, and how long while the other is
 * saturated.
 *
 * Waits are the server's own: from the queue to a slot, as its log tells them (`slot taken`).
 */
import { expect } from 'vitest';
import type { ServerProcess } from './server-process.js';

const NEW_TOKENS = 16;
/** Ids of requests are unique over all loads of a test. */
let sent = 0;

export class ModelLoad {
  readonly #server: ServerProcess;
  readonly #name: string;
  readonly #clients: number;

  /** @param clients more than the model has slots */
  constructor(server: ServerProcess, name: string, clients: number) {
    this.#server = server;
    this.#name = name;
    this.#clients = clients;
  }

  /** One request, whatever the server says; resolves with its id when it is answered. */
  async ask(): Promise<string> {
    const id = `${this.#name}-${++sent}`;
    const response = await fetch(`${this.#server.url}/predictions/${this.#name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': id },
      body: JSON.stringify({
        inputs: 'Once upon a time there was a king',
        parameters: { max_new_tokens: NEW_TOKENS, do_sample: false, ignore_eos: true },
      }),
    });
    expect(response.status).toBe(200);
    await response.json();
    return id;
  }

  /** Requests a second that it answers when as many as it can take are there. */
  async capacity(requests: number): Promise<number> {
    let left = requests;
    const startMs = performance.now();
    const client = async (): Promise<void> => {
      while (left-- > 0) await this.ask();
    };
    await Promise.all(Array.from({ length: this.#clients }, client));
    return (requests / (performance.now() - startMs)) * 1000;
  }

  /** As many requests as it can take, until the result is called; that resolves when the last is answered. */
  saturate(): () => Promise<void> {
    let isOver = false;
    const client = async (): Promise<void> => {
      while (!isOver) await this.ask();
    };
    const clients = Promise.all(Array.from({ length: this.#clients }, client));
    return async () => {
      isOver = true;
      await clients;
    };
  }

  /** Requests at a steady rate; the waits of all of them, in ms. */
  async waitsAt(perSecond: number, requests: number): Promise<number[]> {
    const startMs = performance.now();
    const answers: Promise<string>[] = [];
    for (let index = 0; index < requests; index++) {
      const dueMs = startMs + (1000 * index) / perSecond;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs - performance.now())));
      answers.push(this.ask());
    }
    const ids = new Set(await Promise.all(answers));
    const waits = this.#server.lines.flatMap((line) =>
      line.msg === 'slot taken' && ids.has(String(line.requestId)) ? [Number(line.waitMs)] : [],
    );
    expect(waits).toHaveLength(requests);
    return waits;
  }
}

/** The value that 99 of 100 do not exceed. */
export function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(0.99 * sorted.length) - 1]!;
}
