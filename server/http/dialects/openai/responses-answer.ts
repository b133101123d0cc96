/**
 * OpenAI's Responses: the answer as one object, or as the events of a stream.
 *
 * In      a ChatRun; the body it came from
 * Out     a response object; server-sent events, each with its type and number
 * Errors  none of its own
 * Source  OpenAI API reference (responses, streaming events)
 */
import { randomUUID } from 'node:crypto';
import type { FinishEvent } from '../../../requests/job-events.js';
import { withOpening } from '../../answers/stream-reply.js';
import type { ReadAnswer } from './chat-answer.js';
import type { ChatRun } from './chat-run.js';

type Given = Readonly<Record<string, unknown>>;
type Item = Record<string, unknown>;

const newId = (kind: string): string => `${kind}_${randomUUID().replaceAll('-', '')}`;

export interface ResponseHead {
  id: string;
  created: number;
  model: string;
  body: Given;
  /** Events of its stream so far. */
  sent: number;
}

export const responseHead = (model: string, body: Given): ResponseHead => ({
  id: newId('resp'),
  created: Math.floor(Date.now() / 1000),
  model,
  body,
  sent: 0,
});

function responseObject(
  { body, created, id, model }: ResponseHead,
  status: string,
  output: readonly Item[],
  usage: object | null,
) {
  return {
    id,
    object: 'response',
    created_at: created,
    status,
    background: false,
    error: null,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    model,
    output,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: body.reasoning ?? { effort: null, summary: null },
    store: false,
    temperature: body.temperature ?? null,
    text: body.text ?? { format: { type: 'text' } },
    tool_choice: body.tool_choice ?? 'auto',
    tools: body.tools ?? [],
    top_p: body.top_p ?? null,
    truncation: 'disabled',
    usage,
    metadata: body.metadata ?? {},
  };
}

const usageOf = (
  { cachedTokens = 0, newTokens, promptTokens }: FinishEvent,
  { thoughtTokens }: Pick<ChatRun, 'thoughtTokens'>,
) => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: cachedTokens },
  output_tokens: newTokens,
  output_tokens_details: { reasoning_tokens: thoughtTokens },
  total_tokens: promptTokens + newTokens,
});

const statusOf = ({ reason }: FinishEvent): string => (reason === 'length' ? 'incomplete' : 'completed');

const textPart = (text: string) => ({ type: 'output_text', text, annotations: [], logprobs: [] });
const partOf = (kind: 'reasoning' | 'content', text: string) =>
  kind === 'content' ? textPart(text) : { type: 'reasoning_text', text };
const reasoningItem = (id: string, text: string, status: string): Item => ({
  ...{
    type: 'reasoning',
    id,
    summary: [],
    content: text === '' ? [] : [{ type: 'reasoning_text', text }],
    status,
  },
});
const messageItem = (id: string, text: string | null, status: string): Item => ({
  ...{ type: 'message', id, role: 'assistant', status, content: text === null ? [] : [textPart(text)] },
});
const callItem = (id: string, callId: string, name: string, given: string, status: string): Item => ({
  ...{ type: 'function_call', id, call_id: callId, name, arguments: given, status },
});

export function wholeResponse(
  head: ResponseHead,
  { calls, content, reasoning }: ReadAnswer,
  finish: FinishEvent,
  run: Pick<ChatRun, 'thoughtTokens'>,
) {
  const status = statusOf(finish);
  const output: Item[] = [];
  if (reasoning !== '') output.push(reasoningItem(newId('rs'), reasoning, status));
  if (content !== '' || calls.length === 0) output.push(messageItem(newId('msg'), content, status));
  for (const { function: called, id } of calls) {
    output.push(callItem(newId('fc'), id, called.name, called.arguments, status));
  }
  return responseObject(head, status, output, usageOf(finish, run));
}

const sentEvent = (head: ResponseHead, type: string, fields: object): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: head.sent++, ...fields })}\n\n`;

/** How a stream ends that has begun: clients wait for one of its three ends. */
export function failedEvents(head: ResponseHead, code: string, message: string): string[] {
  const failed = { ...responseObject(head, 'failed', [], null), error: { code, message } };
  return [
    sentEvent(head, 'error', { code, message, param: null }),
    sentEvent(head, 'response.failed', { response: failed }),
  ];
}

/** An item of the output while it is written. */
interface OpenItem {
  kind: 'reasoning' | 'content' | 'call';
  id: string;
  callId: string;
  name: string;
  text: string;
}

export async function* responseEvents(head: ResponseHead, run: ChatRun): AsyncGenerator<string> {
  const output: Item[] = [];
  let open: OpenItem | null = null;
  const event = (type: string, fields: object): string => sentEvent(head, type, fields);
  const at = (item: OpenItem) => ({ item_id: item.id, output_index: output.length });

  const begin = function* (kind: OpenItem['kind'], name = '', callId = ''): Generator<string> {
    const prefix = { reasoning: 'rs', content: 'msg', call: 'fc' }[kind];
    open = { kind, id: newId(prefix), callId, name, text: '' };
    const item = itemOf(open, 'in_progress', true);
    yield event('response.output_item.added', { output_index: output.length, item });
    if (kind !== 'call') {
      yield event('response.content_part.added', { ...at(open), content_index: 0, part: partOf(kind, '') });
    }
  };
  const end = function* (status: string): Generator<string> {
    const item = open;
    if (item === null) return;
    open = null;
    const { text } = item;
    if (item.kind === 'call') {
      yield event('response.function_call_arguments.done', { ...at(item), name: item.name, arguments: text });
    } else {
      const type = item.kind === 'content' ? 'output_text' : 'reasoning_text';
      const more = item.kind === 'content' ? { logprobs: [] } : {};
      yield event(`response.${type}.done`, { ...at(item), content_index: 0, text, ...more });
      const part = partOf(item.kind, text);
      yield event('response.content_part.done', { ...at(item), content_index: 0, part });
    }
    const whole = itemOf(item, status, false);
    yield event('response.output_item.done', { output_index: output.length, item: whole });
    output.push(whole);
  };
  const add = function* (kind: 'reasoning' | 'content' | 'call', text: string): Generator<string> {
    if (kind !== 'call' && open?.kind !== kind) {
      yield* end('completed');
      yield* begin(kind);
    }
    const item = open!;
    item.text += text;
    const type = { reasoning: 'reasoning_text', content: 'output_text', call: 'function_call_arguments' }[
      kind
    ];
    const more = kind === 'call' ? {} : { content_index: 0, ...(kind === 'content' && { logprobs: [] }) };
    yield event(`response.${type}.delta`, { ...at(item), ...more, delta: text });
  };

  const created = responseObject(head, 'in_progress', [], null);
  const opening = [
    event('response.created', { response: created }),
    event('response.in_progress', { response: created }),
  ];
  const answer = async function* (): AsyncGenerator<string> {
    for await (const next of run.parts()) {
      if (Array.isArray(next)) {
        for (const part of next) {
          if (part.kind === 'call') {
            yield* end('completed');
            yield* begin('call', part.name, part.id ?? newId('call'));
          } else if (part.kind === 'arguments') yield* add('call', part.text);
          else yield* add(part.kind, part.text);
        }
        continue;
      }
      const status = statusOf(next);
      if (output.length === 0 && open === null) yield* begin('content');
      yield* end(status);
      yield event(`response.${status}`, {
        response: responseObject(head, status, output, usageOf(next, run)),
      });
    }
  };
  yield* withOpening(opening, answer());
}

function itemOf({ callId, id, kind, name, text }: OpenItem, status: string, isEmpty: boolean): Item {
  if (kind === 'call') return callItem(id, callId, name, text, status);
  return kind === 'reasoning'
    ? reasoningItem(id, text, status)
    : messageItem(id, isEmpty ? null : text, status);
}
