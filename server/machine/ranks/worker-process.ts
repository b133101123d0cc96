/**
 * One rank's process and its control socket: spawn, frames both ways, its log lines, its end.
 *
 * In      WorkerLaunch; ToWorker messages
 * Out     FromWorker messages, and `exited` with a sentence that says how it ended
 * Limits  MAX_CONTROL_FRAME_BYTES a frame; MAX_LOG_LINE bytes a log line
 * Errors  onBroken: a frame that is not ours, of another rank, or a socket error
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import { Pair } from 'zeromq';
import { decodeFromWorker, encodeToWorker, type ToWorker } from '../../../proto/control.js';
import { MAX_CONTROL_FRAME_BYTES } from '../../../proto/limits.js';
import { controlAddress, type WorkerLaunch } from '../../../proto/worker-launch.js';
import type { RankEvents, RankHandle } from './rank-launcher.js';
import { workerEnvironment } from './worker-environment.js';

const MAX_LOG_LINE = 8192;
/** A worker's garbage is small and dies young: without this its heap keeps 5 MB more. */
const NODE_OPTIONS = ['--max-semi-space-size=1'];
/** A worker that fails says why and exits; the frame may be read after the exit is seen. */
const LAST_WORDS_MS = 1000;

/** Every rank is sent the same messages: their bytes are made once. */
const frames = new WeakMap<ToWorker, Uint8Array>();

export class WorkerProcess implements RankHandle {
  readonly rank: number;
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  readonly #socket: Pair;
  readonly #outbox: Uint8Array[] = [];
  #sending = false;
  #closed = false;
  readonly #events: RankEvents;

  private constructor(child: ChildProcess, socket: Pair, rank: number, logger: Logger, events: RankEvents) {
    this.rank = rank;
    this.#child = child;
    this.#socket = socket;
    this.#events = events;
    this.exited = new Promise((resolve) => {
      child.on('error', (error) => resolve(`could not be started: ${error.message}`));
      child.once('exit', (code, signal) => {
        if (signal) resolve(`was killed by ${signal}`);
        else if (code === 0) resolve('exited with code 0');
        else setTimeout(() => resolve(`exited with code ${code}`), LAST_WORDS_MS);
      });
    });
    if (child.stdout) logLines(child.stdout, (line) => logger.info({ rank }, line));
    if (child.stderr) logLines(child.stderr, (line) => logger.warn({ rank }, line));
    void this.#receive();
  }

  /** Binds the rank's control socket, then starts its process. */
  static async start(
    program: string,
    launch: WorkerLaunch,
    logger: Logger,
    events: RankEvents,
  ): Promise<WorkerProcess> {
    const socket = new Pair({ linger: 0, maxMessageSize: MAX_CONTROL_FRAME_BYTES });
    await socket.bind(controlAddress(launch.socketFolder, launch.rank));
    const child = spawn(process.execPath, [...NODE_OPTIONS, program, JSON.stringify(launch)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: workerEnvironment(process.env),
    });
    return new WorkerProcess(child, socket, launch.rank, logger, events);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  send(message: ToWorker): void {
    if (this.#closed) return;
    const frame = frames.get(message) ?? encodeToWorker(message);
    frames.set(message, frame);
    this.#outbox.push(frame);
    if (!this.#sending) void this.#drain();
  }

  kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  /** The socket is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox.length = 0;
    this.#socket.close();
  }

  /** A ZeroMQ socket sends one message at a time. */
  async #drain(): Promise<void> {
    this.#sending = true;
    try {
      for (let frame = this.#outbox.shift(); frame && !this.#closed; frame = this.#outbox.shift()) {
        await this.#socket.send(frame);
      }
    } catch (error) {
      if (!this.#closed) this.#events.onBroken(error);
    } finally {
      this.#sending = false;
    }
  }

  async #receive(): Promise<void> {
    try {
      for await (const parts of this.#socket) {
        const [frame] = parts;
        assert(frame && parts.length === 1, 'a control message is one frame');
        const message = decodeFromWorker(frame);
        assert.equal(message.rank, this.rank, 'a frame comes from the rank of its socket');
        this.#events.onMessage(message);
      }
    } catch (error) {
      if (!this.#closed) this.#events.onBroken(error);
    }
  }
}

/** Calls `log` with each line; a longer line is cut. */
function logLines(stream: Readable, log: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = (lines.pop() ?? '').slice(0, MAX_LOG_LINE);
    for (const line of lines) if (line.trim()) log(line.slice(0, MAX_LOG_LINE));
  });
  stream.on('end', () => {
    if (rest.trim()) log(rest);
  });
}
