/**
 * Program of a child process: renders the chats of one model, one after the other (chat-renderer.ts is its other end).
 *
 * In      argument: ChatLimits as JSON; messages { source } once, then { messages, options } each
 * Out     a message for each: { text } or { code, message }; to the first, { text: '' } when its templates parse
 * Limits  ChatLimits.renderMs for each, by V8's own watchdog: also a loop that never comes back ends, and the process lives on;
 *         ChatLimits.characters of text; memory by the heap's limit, which ends the process
 * Errors  CHECKPOINT_INVALID, BAD_REQUEST, CHAT_TEMPLATE_LIMIT
 *
 * It ends when its parent does: the channel closes, and no rendering lasts.
 */
import { Script } from 'node:vm';
import { ServingError } from '../../../proto/errors.js';
import {
  ChatTemplate,
  type ChatTemplateSource,
  type RenderOptions,
  type TemplateMessage,
} from '../../text/chat-template.js';
import type { ChatLimits } from './chat-renderer.js';

export type ChatTask =
  | { source: ChatTemplateSource }
  | { messages: readonly TemplateMessage[]; options: RenderOptions };

export type ChatReply = { text: string } | { code: string; message: string };

const limits = JSON.parse(process.argv[2] ?? '') as ChatLimits;
let template: ChatTemplate | null = null;
let task: ChatTask | null = null;

/** The watchdog guards what a script calls, so that the work is called by one. */
const guarded = new Script('runChatTask()');
Object.assign(globalThis, { runChatTask });

function runChatTask(): string {
  if (task === null) throw new Error('no task');
  if ('source' in task) {
    template = new ChatTemplate(task.source);
    return '';
  }
  if (template === null) throw new Error('no template');
  return template.render(task.messages, task.options);
}

function answer(next: ChatTask): ChatReply {
  task = next;
  try {
    const text = guarded.runInThisContext({ timeout: limits.renderMs }) as string;
    if (text.length <= limits.characters) return { text };
    return {
      code: 'CHAT_TEMPLATE_LIMIT',
      message: `The model's chat template makes a text of ${text.length} characters of these messages, the limit is ${limits.characters}`,
    };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      return {
        code: 'CHAT_TEMPLATE_LIMIT',
        message: `The model's chat template was not done with these messages after ${limits.renderMs} ms, its limit`,
      };
    }
    const { code, message } = ServingError.from(error);
    return { code, message };
  } finally {
    task = null;
  }
}

// Signals of the terminal and of a service manager reach every process of the server, which may still be draining.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.exit());
process.on('message', (next: ChatTask) => process.send?.(answer(next)));
