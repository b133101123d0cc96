/**
 * How a model's answers are read: as its options say, or by its chat template.
 *
 * In      option.tool_call_parser, option.reasoning_parser; the template, which renders one message
 * Out     AnswerFormat; null: it has no template
 * Errors  none: a template that refuses one message is guessed by its text alone
 */
import type { ModelConfig } from '../../config/config.js';
import type { AnswerFormat, CallParserName, ReasoningParserName } from '../../requests/answer-format.js';
import { guessAnswerFormat } from '../../text/answer-parts/answer-parsers.js';
import type { ChatTemplateSource } from '../../text/chat-template.js';
import type { ChatRenderer } from './chat-renderer.js';

export async function answerFormatOf(
  { reasoningParser, toolCallParser }: Pick<ModelConfig, 'reasoningParser' | 'toolCallParser'>,
  template: ChatTemplateSource | null,
  renderer: Pick<ChatRenderer, 'render'> | null,
): Promise<AnswerFormat | null> {
  if (template === null || renderer === null) return null;
  const messages = [{ role: 'user', content: 'Hello' }];
  const prompt = await renderer.render(messages, { addGenerationPrompt: true }).catch(() => '');
  const guessed = guessAnswerFormat(`${template.text}${template.toolText ?? ''}`, prompt);
  return {
    ...guessed,
    calls: named<CallParserName>(toolCallParser, guessed.calls),
    reasoning: named<ReasoningParserName>(reasoningParser, guessed.reasoning),
  };
}

const named = <T extends string>(option: T | 'auto' | 'none', guessed: T | null): T | null =>
  option === 'auto' ? guessed : option === 'none' ? null : option;
