/**
 * OpenAI's Responses: a body → that of a chat.
 *
 * In      {"input", "instructions", "tools", "text", "reasoning", …}
 * Out     a chat body, not checked yet
 * Limits  nothing is stored: an answer cannot go on behind another by its id
 * Errors  InvalidInput naming the field
 * Source  OpenAI API reference (responses)
 */
import { InvalidInput } from '../../../requests/invalid-input.js';
import { asList, refuseUnserved } from '../../../requests/sampling-fields.js';
import { quote } from '../../../requests/validation.js';

type Given = Readonly<Record<string, unknown>>;

const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  previous_response_id: [],
  conversation: [],
  background: [false],
  prompt: [],
  max_tool_calls: [],
  top_logprobs: [0],
};

/** The same in both. */
const SHARED = [
  'model',
  'temperature',
  'top_p',
  'stream',
  'parallel_tool_calls',
  'top_k',
  'seed',
  'chat_template_kwargs',
];

/** @throws InvalidInput */
export function chatOfResponses(body: unknown): Record<string, unknown> {
  const given = objectOf(body, 'The request body');
  const refused = refuseUnserved(given, UNSERVED);
  if (refused !== null) throw refused;
  const messages = messagesOf(given.input);
  if (typeof given.instructions === 'string' && given.instructions !== '') {
    messages.unshift({ role: 'system', content: given.instructions });
  }
  const { format } = objectOf(given.text ?? {}, 'text');
  const { effort } = objectOf(given.reasoning ?? {}, 'reasoning');
  const chat: Record<string, unknown> = {
    messages,
    max_completion_tokens: given.max_output_tokens ?? null,
    tools: toolsOf(given.tools),
    tool_choice: choiceOf(given.tool_choice),
    response_format: format ?? null,
    reasoning_effort: effort ?? null,
  };
  for (const name of SHARED) if (given[name] !== undefined) chat[name] = given[name];
  return chat;
}

function messagesOf(input: unknown): Record<string, unknown>[] {
  if (typeof input === 'string' && input !== '') return [{ role: 'user', content: input }];
  if (!Array.isArray(input) || input.length === 0) {
    throw new InvalidInput('input must be a text or a list of items', 'input');
  }
  const messages: Record<string, unknown>[] = [];
  for (const [index, item] of input.entries()) {
    addItem(messages, objectOf(item, `input[${index}]`), `input[${index}]`);
  }
  return messages;
}

function addItem(messages: Record<string, unknown>[], item: Given, place: string): void {
  switch (item.type ?? 'message') {
    case 'message':
      messages.push({ role: item.role, content: item.content });
      return;
    case 'function_call': {
      const call = {
        id: item.call_id,
        type: 'function',
        function: { name: item.name, arguments: item.arguments },
      };
      const last = messages.at(-1);
      if (last?.role === 'assistant') last.tool_calls = [...((last.tool_calls as unknown[]) ?? []), call];
      else messages.push({ role: 'assistant', content: null, tool_calls: [call] });
      return;
    }
    case 'function_call_output':
      messages.push({ role: 'tool', tool_call_id: item.call_id, content: item.output });
      return;
    case 'reasoning':
      // What it thought before is not shown again: the templates drop it.
      return;
    default:
      throw new InvalidInput(
        `${place}.type must be "message", "function_call", "function_call_output" or "reasoning", got ${quote(item.type)}`,
        'input',
      );
  }
}

function toolsOf(tools: unknown): unknown[] {
  if (tools === undefined || tools === null) return [];
  if (!Array.isArray(tools)) throw new InvalidInput('tools must be a list', 'tools');
  return tools.map((tool: unknown, index) => {
    const { type, ...fields } = objectOf(tool, `tools[${index}]`);
    if (type === 'function') return { type, function: fields };
    throw new InvalidInput(
      `tools[${index}].type must be "function": this server has no tools of its own, got ${quote(type)}`,
      'tools',
    );
  });
}

function choiceOf(choice: unknown): unknown {
  if (typeof choice !== 'object' || choice === null) return choice ?? null;
  const { name, type } = choice as Given;
  return type === 'function' ? { type, function: { name } } : choice;
}

function objectOf(value: unknown, what: string): Given {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Given;
  throw new InvalidInput(
    `${what} must be an object, got ${quote(value)}`,
    asList(what.split(/[.[]/)[0]).at(0) ?? null,
  );
}
