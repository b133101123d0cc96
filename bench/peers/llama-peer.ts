/**
 * llama.cpp as a peer: installs node-llama-cpp on demand, and holds the process that runs it.
 *
 * In      a GGUF file, threads
 * Out     times of prefill and decode as that process took them
 * Limits  what is installed: the package and its prebuilt library for this machine's CPU, by npm, from the registry that npm is
 *         set to; beside bench/peers/package.json. Not the 700 MB of libraries for GPUs; nothing is compiled
 * Errors  Error: npm failed; what llama.cpp said; the process ended
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LlamaAnswer, LlamaCall } from './llama-process.js';
import type { OpenedWork, Peer } from './peer.js';

/** Beside the sources, three levels above dist/bench/peers/. */
const PACKAGE_FOLDER = fileURLToPath(new URL('../../../bench/peers', import.meta.url));
const PROGRAM = fileURLToPath(new URL('./llama-process.js', import.meta.url));

function wantedVersion(): string {
  const { dependencies } = JSON.parse(readFileSync(path.join(PACKAGE_FOLDER, 'package.json'), 'utf8'));
  return dependencies['node-llama-cpp'];
}

/** The version that is there afterwards. */
export function installLlama(): string {
  const version = wantedVersion();
  const library = `@node-llama-cpp/linux-${process.arch}`;
  const isInstalled = ['node-llama-cpp', library].every((name) => {
    const manifest = path.join(PACKAGE_FOLDER, 'node_modules', name, 'package.json');
    return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).version === version;
  });
  if (isInstalled) return version;
  console.error(`Installing node-llama-cpp ${version} into bench/peers …`);
  const { status } = spawnSync(
    'npm',
    [
      'install',
      '--no-save',
      '--no-package-lock',
      '--omit=optional',
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      `${library}@${version}`,
    ],
    { cwd: PACKAGE_FOLDER, stdio: ['ignore', 2, 2] },
  );
  if (status !== 0) throw new Error(`npm install of node-llama-cpp ${version} failed with code ${status}`);
  return version;
}

export class LlamaPeer implements Peer {
  readonly name = 'llama.cpp';
  readonly variants = ['flash', 'plain'];
  readonly #process: ChildProcess;
  info = '';

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start(file: string, threads: number): Promise<LlamaPeer> {
    const peer = new LlamaPeer(fork(PROGRAM, { stdio: ['ignore', 2, 2, 'ipc'] }));
    const loaded = await peer.#ask({ call: 'load', packageFolder: PACKAGE_FOLDER, file, threads });
    if ('info' in loaded) peer.info = `node-llama-cpp ${wantedVersion()}, ${loaded.info}`;
    return peer;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async open({ variant, ...work }: OpenedWork): Promise<void> {
    await this.#ask({ call: 'open', ...work, flashAttention: variant === 'flash' });
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
    if (this.#process.connected) this.#process.disconnect();
  }

  async #time(request: LlamaCall): Promise<number> {
    const answer = await this.#ask(request);
    return 'ms' in answer ? answer.ms : Number.NaN;
  }

  #ask(request: LlamaCall): Promise<Exclude<LlamaAnswer, { error: string }>> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null, signal: string | null): void =>
        reject(new Error(`llama.cpp's process ended by ${signal ?? `code ${code}`} in ${request.call}`));
      this.#process.once('exit', onExit);
      this.#process.once('message', (answer: LlamaAnswer) => {
        this.#process.off('exit', onExit);
        if ('error' in answer) reject(new Error(`llama.cpp: ${answer.error}`));
        else resolve(answer);
      });
      this.#process.send(request);
    });
  }
}
