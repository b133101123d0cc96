/**
 * Anthropic's Messages: a body → that of a chat as OpenAI's API has it.
 *
 * In      {"messages", "system", "max_tokens", "tools", "tool_choice", "thinking", "output_config", …}
 * Out     a chat body, not checked yet
 * Errors  InvalidInput naming the field, in Anthropic's names
 * Source  Anthropic API reference (messages)
 */
import { InvalidInput } from '../../../requests/invalid-input.js';
import { refuseUnserved } from '../../../requests/sampling-fields.js';
import { quote } from '../../../requests/validation.js';
import { thinkingSwitch } from '../openai/chat-request.js';

type Given = Readonly<Record<string, unknown>>;

/** Known, not served: what would be answered without them is another answer. */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = { mcp_servers: [], container: [] };

const SHARED = ['model', 'temperature', 'top_p', 'top_k', 'stream', 'chat_template_kwargs'];

/** @throws InvalidInput */
export function chatOfMessages(body: unknown, needsMaxTokens = true): Record<string, unknown> {
  const given = objectOf(body, 'The request body');
  const refused = refuseUnserved(given, UNSERVED);
  if (refused !== null) throw refused;
  if (needsMaxTokens && (!Number.isInteger(given.max_tokens) || (given.max_tokens as number) < 1)) {
    throw new InvalidInput(
      `max_tokens: a whole number of at least 1 is required, got ${quote(given.max_tokens)}`,
      'max_tokens',
    );
  }
  if (!Array.isArray(given.messages) || given.messages.length === 0) {
    throw new InvalidInput('messages: a list of at least one message is required', 'messages');
  }
  const messages = given.messages.flatMap((message: unknown, index) =>
    messagesOf(message, `messages.${index}`),
  );
  if (given.system !== undefined && given.system !== null) {
    messages.unshift({ role: 'system', content: textsOf(given.system, 'system') });
  }
  const choice = choiceOf(given.tool_choice);
  const chat: Record<string, unknown> = {
    messages,
    max_tokens: given.max_tokens ?? null,
    stop: given.stop_sequences ?? null,
    tools: toolsOf(given.tools),
    ...choice,
    ...outputOf(given),
  };
  for (const name of SHARED) if (given[name] !== undefined) chat[name] = given[name];
  const thinking = given.thinking as Given | null | undefined;
  // A template that can be told is told; what it does by itself stays where nothing is said.
  if (thinking !== undefined && thinking !== null) {
    const asked = thinkingSwitch(thinking.type !== 'disabled');
    chat.chat_template_kwargs = { ...asked, ...(given.chat_template_kwargs as Given | undefined) };
  }
  return chat;
}

function messagesOf(message: unknown, place: string): Record<string, unknown>[] {
  const { content, role } = objectOf(message, place);
  if (role !== 'user' && role !== 'assistant') {
    throw new InvalidInput(`${place}.role: must be "user" or "assistant", got ${quote(role)}`, 'messages');
  }
  if (typeof content === 'string') return [{ role, content }];
  if (!Array.isArray(content))
    throw new InvalidInput(`${place}.content: must be a text or a list of blocks`, 'messages');
  const results: Record<string, unknown>[] = [];
  const calls: unknown[] = [];
  let text = '';
  content.forEach((one: unknown, index) => {
    const at = `${place}.content.${index}`;
    const block = objectOf(one, at);
    switch (block.type) {
      case 'text':
        text += stringOf(block.text, `${at}.text`);
        return;
      case 'tool_use':
        calls.push({
          id: block.id,
          type: 'function',
          function: { name: block.name, arguments: JSON.stringify(block.input ?? {}) },
        });
        return;
      case 'tool_result':
        results.push({
          role: 'tool',
          tool_call_id: block.tool_use_id,
          content: textsOf(block.content ?? '', `${at}.content`),
        });
        return;
      // What it thought before is not shown again: the templates drop it.
      case 'thinking':
      case 'redacted_thinking':
        return;
      default:
        throw new InvalidInput(
          `${at}.type: ${quote(block.type)} is not supported by this server: it takes text alone`,
          'messages',
        );
    }
  });
  const own = { role, content: text, ...(calls.length > 0 && { tool_calls: calls }) };
  return text === '' && calls.length === 0 && results.length > 0 ? results : [...results, own];
}

/** A text, or the texts of a list of blocks. */
function textsOf(value: unknown, place: string): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value))
    throw new InvalidInput(`${place}: must be a text or a list of blocks`, place.split('.')[0]!);
  return value
    .map((one: unknown, index) => {
      const block = objectOf(one, `${place}.${index}`);
      if (block.type === 'text') return stringOf(block.text, `${place}.${index}.text`);
      throw new InvalidInput(
        `${place}.${index}.type: ${quote(block.type)} is not supported by this server: it takes text alone`,
        place.split('.')[0]!,
      );
    })
    .join('\n');
}

function toolsOf(tools: unknown): unknown[] {
  if (tools === undefined || tools === null) return [];
  if (!Array.isArray(tools)) throw new InvalidInput('tools: must be a list', 'tools');
  return tools.map((one: unknown, index) => {
    const { description, input_schema: parameters, name, type } = objectOf(one, `tools.${index}`);
    if ((type ?? 'custom') === 'custom')
      return { type: 'function', function: { name, description: description ?? null, parameters } };
    throw new InvalidInput(
      `tools.${index}.type: this server has no tools of its own, got ${quote(type)}`,
      'tools',
    );
  });
}

function choiceOf(choice: unknown): Record<string, unknown> {
  if (choice === undefined || choice === null) return {};
  const { disable_parallel_tool_use: alone, name, type } = objectOf(choice, 'tool_choice');
  const parallel = alone === true ? { parallel_tool_calls: false } : {};
  switch (type) {
    case 'auto':
    case 'none':
      return { tool_choice: type, ...parallel };
    case 'any':
      return { tool_choice: 'required', ...parallel };
    case 'tool':
      return { tool_choice: { type: 'function', function: { name } }, ...parallel };
    default:
      throw new InvalidInput(
        `tool_choice.type: must be "auto", "any", "tool" or "none", got ${quote(type)}`,
        'tool_choice',
      );
  }
}

/** What form the answer has, by either of its two names, and how hard it is thought about. */
function outputOf({ output_config: config, output_format: alone }: Given): Record<string, unknown> {
  const { effort, format = alone } = objectOf(config ?? {}, 'output_config');
  const asked = { ...(effort !== undefined && effort !== null && { reasoning_effort: effort }) };
  if (format === undefined || format === null) return asked;
  const { schema, type } = objectOf(format, 'output_config.format');
  if (type === 'json_schema') return { ...asked, response_format: { type, json_schema: { schema } } };
  throw new InvalidInput(
    `output_config.format.type: must be "json_schema", got ${quote(type)}`,
    'output_config',
  );
}

function stringOf(value: unknown, place: string): string {
  if (typeof value === 'string') return value;
  throw new InvalidInput(`${place}: must be a text, got ${quote(value)}`, place.split('.')[0]!);
}

function objectOf(value: unknown, place: string): Given {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Given;
  throw new InvalidInput(`${place}: must be an object, got ${quote(value)}`, place.split('.')[0] ?? null);
}
