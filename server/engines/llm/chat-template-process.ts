/**
 * Program of a child process: renders the chats of one model, one after the other (chat-renderer.ts is its other end).
 *
 * In      tasks: { source } once, then { messages, options, characters } each
 * Out     the text; of the first, whether its templates parse
 * Limits  limited-task.ts's; `characters` of text
 * Errors  CHECKPOINT_INVALID, BAD_REQUEST, CHAT_TEMPLATE_LIMIT
 */
import { ServingError } from '../../../proto/errors.js';
import {
  ChatTemplate,
  type ChatTemplateSource,
  type RenderOptions,
  type TemplateMessage,
} from '../../text/chat-template.js';
import { serveLimitedTasks } from './limited-task.js';

export interface ChatTask {
  messages: readonly TemplateMessage[];
  options: RenderOptions;
  /** At most so many in the text that the template makes. */
  characters: number;
}

let template: ChatTemplate | null = null;

serveLimitedTasks(
  (task: { source: ChatTemplateSource } | ChatTask): string => {
    if ('source' in task) {
      template = new ChatTemplate(task.source);
      return '';
    }
    if (template === null) throw new Error('no template');
    const text = template.render(task.messages, task.options);
    if (text.length <= task.characters) return text;
    throw new ServingError(
      'CHAT_TEMPLATE_LIMIT',
      `The model's chat template makes a text of ${text.length} characters of these messages, the limit is ${task.characters}`,
    );
  },
  (_task, limitMs) =>
    new ServingError(
      'CHAT_TEMPLATE_LIMIT',
      `The model's chat template was not done with these messages after ${limitMs} ms, its limit`,
    ),
);
