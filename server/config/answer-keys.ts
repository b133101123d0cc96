/**
 * Keys of a model that say how its chats are written and its answers are read, and whether clients may open sessions.
 *
 * Source  vLLM's --tool-call-parser and --reasoning-parser, as LMI passes them on; the names are those of text/answer-parts; LMI's stateful sessions
 */
import { CALL_PARSERS, REASONING_PARSERS } from '../requests/answer-format.js';
import { type KeyRow, modelKey } from './key-row.js';
import { boolean, integer, oneOf, template } from './value-types.js';

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
    oneOf('auto', 'none', ...CALL_PARSERS),
    'auto',
    'how calls of tools stand in the text of an answer; auto: by the chat template (the log tells which); none: they are text',
  ),
  modelKey(
    'option.reasoning_parser',
    'reasoningParser',
    oneOf('auto', 'none', ...REASONING_PARSERS),
    'auto',
    'how what a model thinks stands in the text of an answer, given as reasoning_content; auto: by the chat template; none: it is text',
  ),
  modelKey(
    'option.enable_stateful_sessions',
    'statefulSessions',
    boolean(),
    true,
    'a client may open a session ({"requestType": "NEW_SESSION"}): its requests go to one version of the model',
  ),
  modelKey(
    'option.sessions_expiration',
    'sessionSeconds',
    integer(1, 604_800, 's'),
    1200,
    'how long a session lasts from when it was opened',
  ),
];
