/**
 * Renders chats in a process of their own: a chat template is a program that comes with the checkpoint and may run for ever or fill
 * the memory.
 *
 * In      a checkpoint's template; chats, which wait in line: one is rendered at a time
 * Out     prompt texts
 * Limits  ChatLimits a chat. The line is as long as the pool lets requests be encoded at once
 * Errors  CHECKPOINT_INVALID: the template does not parse; BAD_REQUEST: what it says of the messages; CHAT_TEMPLATE_LIMIT; those of
 *         limited-process.ts
 */
import { fileURLToPath } from 'node:url';
import type { ChatTemplateSource, RenderOptions, TemplateMessage } from '../../text/chat-template.js';
import type { ChatTask } from './chat-template-process.js';
import { LimitedProcess } from './limited-process.js';

export interface ChatLimits {
  renderMs: number;
  /** Heap of the process. */
  memoryMb: number;
  /** At most so many in the text that the template makes. */
  characters: number;
}

/** Ten thousand messages take the templates in use about half a second. */
const LIMITS: ChatLimits = { renderMs: 3000, memoryMb: 256, characters: 16 * 1024 * 1024 };

/** A process starts in some 60 ms; on a machine with many others it may wait for a core. */
const START_MS = 30_000;

const PROGRAM = fileURLToPath(new URL('./chat-template-process.js', import.meta.url));

export class ChatRenderer {
  readonly #process: LimitedProcess<{ source: ChatTemplateSource }, ChatTask>;
  readonly #limits: ChatLimits;

  private constructor(source: ChatTemplateSource, limits: ChatLimits) {
    this.#limits = limits;
    this.#process = new LimitedProcess(
      {
        program: PROGRAM,
        memoryMb: limits.memoryMb,
        limitCode: 'CHAT_TEMPLATE_LIMIT',
        what: "model's chat template",
        over: 'these messages',
        startMs: START_MS,
      },
      { task: { source }, limitMs: limits.renderMs },
    );
  }

  /** @throws ServingError CHECKPOINT_INVALID: a template does not parse */
  static async start(source: ChatTemplateSource, limits: ChatLimits = LIMITS): Promise<ChatRenderer> {
    const renderer = new ChatRenderer(source, limits);
    try {
      await renderer.#process.start();
    } catch (error) {
      await renderer.close();
      throw error;
    }
    return renderer;
  }

  /** @throws ServingError */
  render(
    messages: readonly TemplateMessage[],
    options: RenderOptions,
    signal?: AbortSignal,
  ): Promise<string> {
    const { characters, renderMs } = this.#limits;
    return this.#process.ask({ task: { messages, options, characters }, limitMs: renderMs }, signal);
  }

  /** Chats that are in line are refused. */
  close(): Promise<void> {
    return this.#process.close();
  }
}
