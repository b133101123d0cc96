/**
 * The whole server in a process of its own, as `npm start` runs it.
 *
 * In      environment variables on top of this process's; optionally a folder for a CPU profile of the server
 * Out     its URL and process ids, once every model is ready
 * Errors  Error with the end of its output when it ends before, or takes longer than READY_LIMIT_MS
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const READY_LIMIT_MS = 300_000;
const KEPT_LINES = 20;

export class ServerUnderTest {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  static async start(
    environment: Record<string, string>,
    profileFolder: string | null,
  ): Promise<ServerUnderTest> {
    const profile = profileFolder === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`];
    const child = spawn(process.execPath, [...profile, path.join('server', 'shardserve.mjs'), 'start'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
        SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:0',
        ...environment,
      },
    });
    const last: string[] = [];
    const keep = (line: string): void => {
      last.push(line);
      if (last.length > KEPT_LINES) last.shift();
    };
    createInterface({ input: child.stderr }).on('line', keep);
    const url = await new Promise<string>((resolve, reject) => {
      const fail = (how: string): void => reject(new Error(`the server ${how}:\n${last.join('\n')}`));
      const timer = setTimeout(() => fail(`is not ready after ${READY_LIMIT_MS} ms`), READY_LIMIT_MS);
      child.once('close', (code, signal) => fail(`ended by ${signal ?? `code ${code}`}`));
      createInterface({ input: child.stdout }).on('line', (line) => {
        keep(line);
        const found = /^curl .*?(http:\/\/[^/]+)/.exec(line)?.[1];
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      });
    });
    return new ServerUnderTest(child, url);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Of its shard workers. */
  workerPids(): number[] {
    return readdirSync(`/proc/${this.pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${this.pid}/task/${task}/children`, 'utf8')
        .trim()
        .split(/\s+/)
        .filter(Boolean)
        .map(Number),
    );
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}
