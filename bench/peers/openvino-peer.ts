/**
 * OpenVINO GenAI as a peer, where a Python environment has it: holds the process that runs it (openvino_process.py).
 *
 * In      the environment's interpreter, the GGUF file that llama.cpp runs too, threads
 * Out     times of prefill and decode as that process took them
 * Limits  nothing is installed: `python -m venv DIR && DIR/bin/pip install openvino-genai` does it, some 200 MB
 * Errors  Error: what OpenVINO said; the process ended
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { OpenedWork, Peer } from './peer.js';

/** Beside the sources, three levels above dist/bench/peers/. */
const PROGRAM = fileURLToPath(new URL('../../../bench/peers/openvino_process.py', import.meta.url));

type Answer = { info: string } | { ms: number } | { error: string };

export class OpenvinoPeer implements Peer {
  readonly name = 'OpenVINO';
  readonly variants = ['plain'];
  info = '';
  readonly #process: ChildProcess;
  readonly #lines: Interface;

  private constructor(process: ChildProcess) {
    this.#process = process;
    this.#lines = createInterface({ input: process.stdout! });
  }

  static async start(python: string, file: string, threads: number): Promise<OpenvinoPeer> {
    const peer = new OpenvinoPeer(spawn(python, [PROGRAM], { stdio: ['pipe', 'pipe', 2] }));
    const loaded = await peer.#ask({ call: 'load', file, threads });
    if ('info' in loaded) peer.info = loaded.info;
    return peer;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async open(work: OpenedWork): Promise<void> {
    await this.#ask({ call: 'open', ...work });
  }

  decodeMs(name: string, steps: number): Promise<number> {
    return this.#time({ call: 'decode', name, steps });
  }

  prefillMs(name: string, tokens: number): Promise<number> {
    return this.#time({ call: 'prefill', name, tokens });
  }

  async rewind(name: string): Promise<void> {
    await this.#ask({ call: 'rewind', name });
  }

  async close(name: string): Promise<void> {
    await this.#ask({ call: 'close', name });
  }

  stop(): void {
    this.#process.removeAllListeners();
    this.#process.stdin?.end();
  }

  async #time(call: object): Promise<number> {
    const answer = await this.#ask(call);
    return 'ms' in answer ? answer.ms : Number.NaN;
  }

  #ask(call: object): Promise<Exclude<Answer, { error: string }>> {
    return new Promise((resolve, reject) => {
      const onEnd = (code: number | null): void => {
        reject(new Error(`OpenVINO's process ended by code ${code} in ${JSON.stringify(call)}`));
      };
      const onError = (error: Error): void => reject(new Error(`OpenVINO: ${error.message}`));
      this.#process.once('exit', onEnd);
      this.#process.once('error', onError);
      this.#lines.once('line', (line) => {
        this.#process.off('exit', onEnd);
        this.#process.off('error', onError);
        const answer = JSON.parse(line) as Answer;
        if ('error' in answer) reject(new Error(`OpenVINO: ${answer.error}`));
        else resolve(answer);
      });
      this.#process.stdin!.write(`${JSON.stringify(call)}\n`);
    });
  }
}
