/**
 * What a chat asks, together with how its model answers: the form of the answer, and the parser that reads it.
 *
 * In      a checked chat body; AnswerFormat of the model
 * Out     ChatPlan for its requests; a PartsReader, or null where the text is the answer
 * Errors  none: the body was checked
 */
import type { AnswerFormat } from '../../../requests/answer-format.js';
import type { Target } from '../../../requests/target.js';
import {
  needsSpecialTokens,
  newAnswerParser,
  type ParserOptions,
  PLAIN_ANSWERS,
  thinkingOf,
} from '../../../text/answer-parts/answer-parsers.js';
import type { HttpContext } from '../../http-context.js';
import type { PartsReader } from './chat-answer.js';
import { type ChatBody, type ChatPlan, chatOptions } from './chat-request.js';
import { toolUse } from './chat-tools.js';

export function planChat(
  body: ChatBody,
  format: AnswerFormat,
): { plan: ChatPlan; reader: PartsReader | null } {
  const { constraint, forced, mayCall, most } = toolUse(body);
  const thinks = isThinking(body);
  // A message that is continued is past its thoughts.
  const own = body.continue_final_message === true ? { ...format, reasoning: null } : format;
  const options: ParserOptions = { format: own, hasCalls: mayCall, thinks, forced };
  const hasParts = newAnswerParser(options) !== null;
  const plan: ChatPlan = {
    constraint,
    behind: thinkingOf(own, thinks),
    skipSpecialTokens: !(hasParts && forced === null && needsSpecialTokens(own, mayCall)),
  };
  if (!hasParts) return { plan, reader: null };
  return {
    plan,
    reader: {
      newParser: () => newAnswerParser(options)!,
      mostCalls: most,
      shortIds: format.calls === 'mistral',
      withReasoning: body.include_reasoning ?? true,
    },
  };
}

/** What the template is told (thinkingSwitch). */
function isThinking(body: ChatBody): boolean {
  const options = chatOptions(body).templateOptions ?? {};
  return options.enable_thinking !== false && options.thinking !== false;
}

/** The model's that the requests go to. */
export function answerFormatOf({ service }: HttpContext, { model, version }: Target): AnswerFormat {
  const known = service.models().filter(({ name }) => name === model);
  const status = known.find((one) => one.version === version) ?? known[0];
  return status?.answerFormat ?? PLAIN_ANSWERS;
}
