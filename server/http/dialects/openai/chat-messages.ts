/**
 * A chat's messages as templates read them.
 *
 * In      OpenAI's messages: content as a text, a list of texts or none; calls with their arguments as JSON text; tools' answers; what was
 *         thought, by either of vLLM's names
 * Out     ChatMessages
 * Errors  none: what was checked before
 */
import { type Static, Type } from '@sinclair/typebox';
import { boundedJsonOrNone } from '../../../requests/bounded-json.js';
import type { ChatMessage } from '../../../requests/generate-request.js';

const TextPart = Type.Object({
  type: Type.Union([Type.Literal('text'), Type.Literal('input_text'), Type.Literal('output_text')]),
  text: Type.String(),
});

const Call = Type.Object({
  function: Type.Object({
    name: Type.String({ minLength: 1 }),
    arguments: Type.Optional(
      Type.Union([Type.String(), Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
    ),
  }),
});

export const Message = Type.Object({
  role: Type.String({ minLength: 1, maxLength: 64 }),
  content: Type.Optional(
    Type.Union([Type.String(), Type.Array(TextPart), Type.Null()], {
      expects: 'a text or a list of {"type": "text", "text": …}: this server takes text alone',
    }),
  ),
  tool_calls: Type.Optional(Type.Union([Type.Array(Call, { maxItems: 1024 }), Type.Null()])),
});
type Message = Static<typeof Message>;

export function chatMessages(messages: readonly Message[]): ChatMessage[] {
  return messages.map(({ content, tool_calls: calls, ...others }) => ({
    ...others,
    ...thoughtOf(others),
    content: Array.isArray(content) ? content.map(({ text }) => text).join('') : (content ?? ''),
    ...(calls && calls.length > 0 && { tool_calls: calls.map(templateCall) }),
  }));
}

/** Templates read it by its older name. */
function thoughtOf({ reasoning, reasoning_content: given }: Readonly<Record<string, unknown>>) {
  return typeof reasoning === 'string' && (given ?? null) === null ? { reasoning_content: reasoning } : {};
}

/** Templates write the arguments as JSON themselves: they want the object. */
function templateCall(call: Static<typeof Call>): object {
  const { arguments: given } = call.function;
  return { ...call, function: { ...call.function, arguments: parsedObject(given) ?? given ?? {} } };
}

function parsedObject(text: unknown): object | null {
  if (typeof text !== 'string') return null;
  if (text.trim() === '') return {};
  const value = boundedJsonOrNone(text, 'The arguments of a tool call', 'messages');
  return typeof value === 'object' ? value : null;
}
