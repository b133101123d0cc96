/**
 * The handle of the clients' process.
 *
 * In      prompts, tokens a stream
 * Out     when each token came, on the clock of all processes of the host (client-process.ts)
 * Errors  Error with what a stream said
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ClientAnswer, ClientCall, StreamCall } from './client-process.js';

const PROGRAM = fileURLToPath(new URL('./client-process.js', import.meta.url));

export class StreamClients {
  readonly #process: ChildProcess = fork(PROGRAM, { stdio: ['ignore', 2, 2, 'ipc'] });

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Opens streams. @returns milliseconds until every one had its first token; all of them go on */
  async open(streams: StreamCall): Promise<number> {
    const { openedMs, tokens } = await this.#ask({ call: 'open', streams });
    return Math.max(...tokens.map(([first = Number.NaN]) => first)) - openedMs;
  }

  /** Opens streams, waits for their ends, and hangs up on what still runs after `withinMs`. @returns as close */
  async burst(streams: StreamCall, withinMs: number): Promise<number[][]> {
    return (await this.#ask({ call: 'burst', streams, withinMs })).tokens;
  }

  /** Ends what still runs. @returns of each stream, when its tokens came; the last two events of one that was not cut short are none */
  async close(): Promise<number[][]> {
    return (await this.#ask({ call: 'close' })).tokens;
  }

  stop(): void {
    this.#process.removeAllListeners();
    if (this.#process.connected) this.#process.disconnect();
  }

  async #ask(call: ClientCall): Promise<ClientAnswer> {
    const answer = await new Promise<ClientAnswer>((resolve, reject) => {
      const onExit = (code: number | null): void =>
        reject(new Error(`the clients' process ended with code ${code}`));
      this.#process.once('exit', onExit);
      this.#process.once('message', (reply: ClientAnswer) => {
        this.#process.off('exit', onExit);
        resolve(reply);
      });
      this.#process.send(call);
    });
    if (answer.error !== null) throw new Error(`a stream failed: ${answer.error}`);
    return answer;
  }
}
