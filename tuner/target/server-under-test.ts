/**
 * The whole server in a process of its own, as `npm start` runs it.
 *
 * In      environment variables on top of this process's; optionally a folder for a CPU profile of the server
 * Out     its URL and process ids, once every model is ready; its log lines
 * Limits  READY_LIMIT_MS to be ready; STOP_LIMIT_MS to end, then it is killed
 * Errors  Error with the end of its output when it ends before, or takes longer
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BOUND, boundEnvironment } from '../../proto/bound-child.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const READY_LIMIT_MS = 300_000;
const STOP_LIMIT_MS = 20_000;
const KEPT_LINES = 20;

export class ServerUnderTest {
  readonly url: string;
  /** HOST:PORT; null: it serves none. */
  readonly grpcAddress: string | null;
  /** Resolves with how it ended, and its last lines. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string, grpcAddress: string | null, ended: Promise<string>) {
    this.#child = child;
    this.url = url;
    this.grpcAddress = grpcAddress;
    this.ended = ended;
  }

  static async start(
    environment: Record<string, string>,
    profileFolder: string | null,
    onLine: (line: string) => void = () => {},
  ): Promise<ServerUnderTest> {
    const profile = profileFolder === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`];
    const child = spawn(
      process.execPath,
      [...BOUND, ...profile, path.join('server', 'shardserve.mjs'), 'start'],
      {
        cwd: ROOT,
        // A group of its own: Ctrl-C is for who measures.
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
        // It must not outlive who measures: a killed tuner or bench leaves no server.
        env: boundEnvironment({
          ...process.env,
          SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
          SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:0',
          ...environment,
        }),
      },
    );
    const last: string[] = [];
    let grpcAddress: string | null = null;
    const keep = (line: string): void => {
      onLine(line);
      grpcAddress ??= /"address":"([^"]+)".*served by gRPC/.exec(line)?.[1] ?? null;
      last.push(line);
      if (last.length > KEPT_LINES) last.shift();
    };
    createInterface({ input: child.stderr }).on('line', keep);
    const ended = new Promise<string>((resolve) => {
      child.once('close', (code, signal) => {
        resolve(`ended by ${signal ?? `code ${code}`}:\n${last.join('\n')}`);
      });
    });
    const url = await new Promise<string>((resolve, reject) => {
      const fail = (how: string): void => reject(new Error(`the server ${how}`));
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        fail(`is not ready after ${READY_LIMIT_MS} ms:\n${last.join('\n')}`);
      }, READY_LIMIT_MS);
      void ended.then((how) => {
        clearTimeout(timer);
        fail(how);
      });
      createInterface({ input: child.stdout }).on('line', (line) => {
        keep(line);
        const found = /^curl .*?(http:\/\/[^/]+)/.exec(line)?.[1];
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      });
    });
    return new ServerUnderTest(child, url, grpcAddress, ended);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Its shard workers'. */
  workerPids(): number[] {
    return childPids(this.pid);
  }

  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS);
    this.#child.kill('SIGTERM');
    await this.ended;
    clearTimeout(timer);
  }
}

/** One process's children; none when it is gone. */
export function childPids(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')
        .trim()
        .split(/\s+/)
        .filter(Boolean)
        .map(Number),
    );
  } catch {
    return [];
  }
}
