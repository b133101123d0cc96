/**
 * The built server as a user starts it: `shardserve start` on a free port, its log, its workers, its end.
 *
 * In      environment variables on top of what the tests have
 * Out     URL, log lines that can be waited for, pids
 * Limits  START_LIMIT_MS until it is ready; every wait ends with an error when the server does
 */
import assert from 'node:assert';
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { repositoryRoot } from './repository-root.js';

const START_LIMIT_MS = 120_000;

export interface LogLine {
  msg: string;
  [field: string]: unknown;
}

export class ServerProcess {
  /** How it ended: exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  readonly lines: LogLine[] = [];
  /** Standard output that is not log: the curl command. */
  readonly printed: string[] = [];
  readonly #child: ChildProcess;
  readonly #waiters = new Set<() => void>();
  #ended = false;
  #stderr = '';

  /**
   * @param wrapper a command that runs the server as its child
   * @param started what of the command line starts it
   */
  constructor(
    environment: Record<string, string> = {},
    wrapper: readonly string[] = [],
    started: readonly string[] = ['start'],
    cwd = repositoryRoot,
  ) {
    const program = path.join(repositoryRoot, 'server/shardserve.mjs');
    const [command, ...args] = [...wrapper, process.execPath, program, ...started];
    this.#child = spawn(command!, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
        // Equal: one listener.
        SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:0',
        SERVING_LOG_LEVEL: 'debug',
        ...environment,
      },
    });
    createInterface({ input: this.#child.stdout! }).on('line', (text) => {
      if (text.startsWith('{')) {
        const line = JSON.parse(text) as LogLine;
        // Whoever collects logs may refuse such a line.
        assert(JSON.stringify(line).length >= text.length, `a key twice in a line of the log: ${text}`);
        this.lines.push(line);
      } else this.printed.push(text);
      this.#wake();
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#ended = true;
        resolve(code ?? signal ?? -1);
        this.#wake();
      });
    });
  }

  /** Starts a server and waits until it says that it is ready. */
  static async start(environment: Record<string, string> = {}): Promise<ServerProcess> {
    const server = new ServerProcess(environment);
    await server.ready();
    return server;
  }

  /** It has printed its curl command: every model is ready. */
  ready(): Promise<void> {
    return this.until(() => this.curlCommand !== '', 'its curl command');
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Pids of its children that run, or of the children of another process. */
  childPids(parent = this.pid): number[] {
    const tasks = readdirSync(`/proc/${parent}/task`);
    return tasks.flatMap((task) =>
      readFileSync(`/proc/${parent}/task/${task}/children`, 'utf8')
        .trim()
        .split(/\s+/)
        .filter(Boolean)
        .map(Number),
    );
  }

  get stderr(): string {
    return this.#stderr;
  }

  get curlCommand(): string {
    return this.printed.find((text) => text.startsWith('curl ')) ?? '';
  }

  get url(): string {
    return /https?:\/\/[^/]+/.exec(this.curlCommand)?.[0] ?? '';
  }

  /** Shard workers of the newest group, by rank. */
  get workerPids(): number[] {
    const byRank: number[] = [];
    for (const line of this.lines) {
      if (line.msg === 'shard worker ready') byRank[Number(line.rank)] = Number(line.workerPid);
    }
    return byRank;
  }

  /** The first log line from `from` on that matches. */
  async line(matches: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    let found: LogLine | undefined;
    await this.until(() => {
      found = this.lines.slice(from).find(matches);
      return found !== undefined;
    }, 'a log line');
    return found!;
  }

  post(target: string, body: object, signal?: AbortSignal): Promise<Response> {
    return fetch(`${this.url}${target}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** SIGTERM, and waits for the end. */
  async stop(): Promise<number | string> {
    this.kill('SIGTERM');
    return this.exited;
  }

  /** Resolves when it is true after a line of output. */
  async until(isTrue: () => boolean, what: string): Promise<void> {
    const limit = setTimeout(() => this.#wake(), START_LIMIT_MS);
    const startMs = performance.now();
    try {
      while (!isTrue()) {
        if (this.#ended) throw new Error(`the server ended before ${what}: ${this.#stderr.slice(-2000)}`);
        if (performance.now() - startMs >= START_LIMIT_MS) throw new Error(`no ${what} in time`);
        await new Promise<void>((resolve) => this.#waiters.add(resolve));
        this.#waiters.clear();
      }
    } finally {
      clearTimeout(limit);
    }
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
  }
}

/** Whether a process runs; a zombie, which waits for its parent, does not. */
export function isRunning(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^\d+ \(.*\) [ZX]/.test(status);
  } catch {
    return false;
  }
}

/** Resolves when none of the processes runs. There is no event for the end of a process that is not our child. */
export async function allGone(pids: readonly number[]): Promise<void> {
  const startMs = performance.now();
  while (pids.some(isRunning)) {
    if (performance.now() - startMs > 30_000)
      throw new Error(`still running: ${pids.filter(isRunning).join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** JSON lines of a response, one after the other as they come. */
export async function* jsonLines(response: Response): AsyncGenerator<Record<string, unknown>> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim()) yield JSON.parse(line) as Record<string, unknown>;
  }
  if (rest.trim()) yield JSON.parse(rest) as Record<string, unknown>;
}
