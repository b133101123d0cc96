/**
 * Renders chats in a process of their own: a chat template is a program that comes with the checkpoint and may run for ever or fill
 * the memory.
 *
 * In      a checkpoint's template; chats, which wait in line: one is rendered at a time
 * Out     prompt texts
 * Limits  ChatLimits a chat. The line is as long as the pool lets requests be encoded at once
 * Errors  CHECKPOINT_INVALID: the template does not parse; BAD_REQUEST: what it says of the messages; CHAT_TEMPLATE_LIMIT; the chats
 *         behind such a one are rendered all the same, by a new process where the old one is gone; SHUTTING_DOWN after close
 *
 * Not a thread: a thread's memory limit does not hold (README, 2026-11-26).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isErrorCode, ServingError } from '../../../proto/errors.js';
import { bareEnvironment } from '../../model-store/bare-environment.js';
import type { ChatTemplateSource, RenderOptions, TemplateMessage } from '../../text/chat-template.js';
import type { ChatReply, ChatTask } from './chat-template-process.js';

export interface ChatLimits {
  renderMs: number;
  /** Heap of the process. */
  memoryMb: number;
  /** Of the text that the template makes. */
  characters: number;
}

/** Ten thousand messages take the templates in use about half a second. */
const LIMITS: ChatLimits = { renderMs: 3000, memoryMb: 256, characters: 16 * 1024 * 1024 };

/** Beyond its own limit: a process that does not answer by then (stopped, or in one long call of V8's) is killed. */
const GRACE_MS = 5000;

/** A process starts in some 60 ms; on a machine with many others it may wait for a core. */
const START_MS = 30_000;

export class ChatRenderer {
  readonly #source: ChatTemplateSource;
  readonly #limits: ChatLimits;
  #child: ChildProcess | null = null;
  #isBusy = false;
  #isClosed = false;
  /** Ends with the last chat in line. */
  #line: Promise<unknown> = Promise.resolve();

  private constructor(source: ChatTemplateSource, limits: ChatLimits) {
    this.#source = source;
    this.#limits = limits;
  }

  /** @throws ServingError CHECKPOINT_INVALID: a template does not parse */
  static async start(source: ChatTemplateSource, limits: ChatLimits = LIMITS): Promise<ChatRenderer> {
    const renderer = new ChatRenderer(source, limits);
    try {
      await renderer.#start();
    } catch (error) {
      await renderer.close();
      throw error;
    }
    return renderer;
  }

  /** @throws ServingError */
  render(messages: readonly TemplateMessage[], options: RenderOptions): Promise<string> {
    const turn = this.#line.then(async () =>
      this.#ask(await this.#start(), { messages, options }, this.#limits.renderMs + GRACE_MS),
    );
    this.#line = turn.catch(() => {});
    return turn;
  }

  /** Chats that are in line are refused. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const child = this.#child;
    if (child === null) return;
    const exited = once(child, 'exit');
    child.ref();
    if (this.#isBusy || !child.connected) child.kill('SIGKILL');
    else child.disconnect();
    await exited;
  }

  /** The process, with its templates parsed. */
  async #start(): Promise<ChildProcess> {
    if (this.#isClosed) throw new ServingError('SHUTTING_DOWN', 'The model is being stopped');
    if (this.#child !== null) return this.#child;
    const program = fileURLToPath(new URL('./chat-template-process.js', import.meta.url));
    const child = fork(program, [JSON.stringify(this.#limits)], {
      execArgv: [`--max-old-space-size=${this.#limits.memoryMb}`],
      env: bareEnvironment(),
      // What V8 says of a full heap is for nobody.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // A process that waits for work does not keep the server alive.
    child.unref();
    child.channel?.unref();
    this.#child = child;
    const forget = (): void => {
      if (this.#child === child) this.#child = null;
    };
    child.once('exit', forget);
    child.once('error', forget);
    await this.#ask(child, { source: this.#source }, START_MS);
    return child;
  }

  async #ask(child: ChildProcess, task: ChatTask, limitMs: number): Promise<string> {
    this.#isBusy = true;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, limitMs);
    const listening = new AbortController();
    const { signal } = listening;
    try {
      const reply = await new Promise<ChatReply>((resolve, reject) => {
        // A channel that is broken already is told by the exit.
        child.send(task, () => {});
        onceOf(child, 'message', signal, (message: unknown) => resolve(message as ChatReply));
        onceOf(child, 'error', signal, reject);
        onceOf(child, 'exit', signal, (_code: number | null, by: string | null) =>
          reject(this.#died(isLate ? limitMs : null, by)),
        );
      });
      if ('text' in reply) return reply.text;
      throw new ServingError(isErrorCode(reply.code) ? reply.code : 'INTERNAL', reply.message);
    } finally {
      clearTimeout(timer);
      listening.abort();
      this.#isBusy = false;
    }
  }

  #died(afterMs: number | null, signal: string | null): ServingError {
    if (this.#isClosed) return new ServingError('SHUTTING_DOWN', 'The model is being stopped');
    const how =
      afterMs === null
        ? `ended (${signal ?? 'by itself'}) over these messages: it may use ${this.#limits.memoryMb} MB of memory`
        : `did not answer after ${afterMs} ms`;
    return new ServingError('CHAT_TEMPLATE_LIMIT', `The process of the model's chat template ${how}`);
  }
}

/** Calls back for the event unless `signal` is aborted before. */
function onceOf(
  child: ChildProcess,
  event: 'message' | 'error' | 'exit',
  signal: AbortSignal,
  act: (...args: never[]) => void,
): void {
  const listener = act as (...args: unknown[]) => void;
  child.once(event, listener);
  signal.addEventListener('abort', () => child.off(event, listener), { once: true });
}
