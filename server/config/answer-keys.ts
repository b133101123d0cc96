/**
 * Keys of a model that say how its chats are written and its answers are read.
 *
 * Source  vLLM's --tool-call-parser and --reasoning-parser, as LMI passes them on; the names are those of text/answer-parts
 */
import { type KeyRow, modelKey } from './key-row.js';
import { oneOf, template } from './value-types.js';

export const ANSWER_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.chat_template',
    'chatTemplate',
    template(),
    null,
    "Jinja template that replaces the checkpoint's",
  ),
  modelKey(
    'option.tool_call_parser',
    'toolCallParser',
    oneOf(
      'auto',
      'none',
      'hermes',
      'qwen',
      'llama3_json',
      'llama4_json',
      'mistral',
      'pythonic',
      'llama4_pythonic',
      'openai',
    ),
    'auto',
    'how calls of tools stand in the text of an answer; auto: by the chat template (the log tells which); none: they are text',
  ),
  modelKey(
    'option.reasoning_parser',
    'reasoningParser',
    oneOf('auto', 'none', 'deepseek_r1', 'qwen3', 'mistral', 'granite', 'seed_oss', 'openai_gptoss'),
    'auto',
    'how what a model thinks stands in the text of an answer, given as reasoning_content; auto: by the chat template; none: it is text',
  ),
];
