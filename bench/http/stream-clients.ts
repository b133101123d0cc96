/**
 * The handle of the clients' process, and what its times mean.
 *
 * In      prompts, tokens a stream
 * Out     time to first token, gaps between tokens, tokens a second while all streams run, the clients' share of a core
 * Errors  Error with what a stream said
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { StreamAnswer, StreamCall } from './client-process.js';

const PROGRAM = fileURLToPath(new URL('./client-process.js', import.meta.url));

export interface StreamRun {
  /** Of the stream that waited longest. */
  firstTokenMs: number;
  /** Of all streams, while all run. */
  tokensPerSecond: number;
  /** Between two tokens of a stream, while all run. */
  gapsMs: number[];
  /** Of a core. */
  clientCpu: number;
}

export class StreamClients {
  readonly #process: ChildProcess = fork(PROGRAM, { stdio: ['ignore', 2, 2, 'ipc'] });

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async run(call: StreamCall): Promise<StreamRun> {
    const answer = await this.#ask(call);
    if (answer.error !== null) throw new Error(`a stream failed: ${answer.error}`);
    const times = answer.streams.map(({ tokens }) => tokens);
    const firstTokenMs = Math.max(...times.map((tokens) => tokens[0] ?? Number.NaN));
    const endMs = Math.min(...times.map((tokens) => tokens.at(-1) ?? Number.NaN));
    const gapsMs: number[] = [];
    let count = 0;
    for (const tokens of times) {
      for (const [index, timeMs] of tokens.entries()) {
        if (timeMs <= firstTokenMs || timeMs > endMs) continue;
        count++;
        gapsMs.push(timeMs - (tokens[index - 1] ?? timeMs));
      }
    }
    return {
      firstTokenMs,
      tokensPerSecond: (count * 1000) / (endMs - firstTokenMs),
      gapsMs,
      clientCpu: answer.cpuSeconds / answer.seconds,
    };
  }

  stop(): void {
    this.#process.removeAllListeners();
    if (this.#process.connected) this.#process.disconnect();
  }

  #ask(call: StreamCall): Promise<StreamAnswer> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null): void =>
        reject(new Error(`the clients' process ended with code ${code}`));
      this.#process.once('exit', onExit);
      this.#process.once('message', (answer: StreamAnswer) => {
        this.#process.off('exit', onExit);
        resolve(answer);
      });
      this.#process.send(call);
    });
  }
}
