/**
 * Anthropic's Messages: the answer as one object, or as the events of a stream.
 *
 * In      a ChatRun
 * Out     a message with its blocks; server-sent events
 * Errors  none of its own
 * Source  Anthropic API reference (messages, streaming)
 */
import { randomUUID } from 'node:crypto';
import type { FinishEvent } from '../../../requests/job-events.js';
import type { AnswerPart } from '../../../text/answer-parts/answer-part.js';
import { withOpening } from '../../answers/stream-reply.js';
import type { ReadAnswer } from '../openai/chat-answer.js';
import type { ChatRun } from '../openai/chat-run.js';

export interface MessageHead {
  id: string;
  model: string;
}

const newId = (kind: string): string => `${kind}_${randomUUID().replaceAll('-', '')}`;

export const messageHead = (model: string): MessageHead => ({ id: newId('msg'), model });

const ending = ({ reason, stop }: FinishEvent, hasCalled: boolean) => {
  const isStop = reason === 'stop-string';
  const why =
    reason === 'length' ? 'max_tokens' : hasCalled ? 'tool_use' : isStop ? 'stop_sequence' : 'end_turn';
  return { stop_reason: why, stop_sequence: isStop && typeof stop === 'string' ? stop : null };
};

const usageOf = (promptTokens: number, newTokens: number, cachedTokens = 0) => ({
  input_tokens: promptTokens - cachedTokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: cachedTokens,
  output_tokens: newTokens,
});

export function wholeMessage(
  head: MessageHead,
  { calls, content, reasoning }: ReadAnswer,
  finish: FinishEvent,
) {
  const blocks: object[] = [];
  if (reasoning !== '') blocks.push({ type: 'thinking', thinking: reasoning, signature: '' });
  if (content !== '') blocks.push({ type: 'text', text: content });
  for (const { function: called, id } of calls) {
    blocks.push({ type: 'tool_use', id, name: called.name, input: inputOf(called.arguments) });
  }
  const { cachedTokens, newTokens, promptTokens } = finish;
  return {
    ...{ id: head.id, type: 'message', role: 'assistant', model: head.model, content: blocks },
    ...ending(finish, calls.length > 0),
    usage: usageOf(promptTokens, newTokens, cachedTokens),
  };
}

/** Cut-off arguments are no object: the client sees what there is. */
function inputOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return { raw: text };
  }
}

export const sentEvent = (data: { type: string }): string =>
  `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

export async function* messageEvents(head: MessageHead, run: ChatRun): AsyncGenerator<string> {
  let index = -1;
  let open: AnswerPart['kind'] | null = null;
  let hasCalled = false;
  const begin = function* (kind: AnswerPart['kind'], block: object): Generator<string> {
    yield* end();
    open = kind;
    index++;
    yield sentEvent({ type: 'content_block_start', index, content_block: block } as { type: string });
  };
  const end = function* (): Generator<string> {
    // As its own streams have it; there is nothing to sign.
    if (open === 'reasoning') yield delta({ type: 'signature_delta', signature: '' });
    if (open !== null) yield sentEvent({ type: 'content_block_stop', index } as { type: string });
    open = null;
  };
  const delta = (fields: object): string =>
    sentEvent({ type: 'content_block_delta', index, delta: fields } as { type: string });
  const write = function* (part: AnswerPart): Generator<string> {
    switch (part.kind) {
      case 'call':
        hasCalled = true;
        yield* begin('call', { type: 'tool_use', id: part.id ?? newId('toolu'), name: part.name, input: {} });
        return;
      case 'arguments':
        yield delta({ type: 'input_json_delta', partial_json: part.text });
        return;
      case 'reasoning':
        if (open !== 'reasoning')
          yield* begin('reasoning', { type: 'thinking', thinking: '', signature: '' });
        yield delta({ type: 'thinking_delta', thinking: part.text });
        return;
      case 'content':
        if (open !== 'content') yield* begin('content', { type: 'text', text: '' });
        yield delta({ type: 'text_delta', text: part.text });
    }
  };
  const { id, model } = head;
  const message = {
    id,
    type: 'message',
    role: 'assistant',
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
  };
  const start = { type: 'message_start', message: { ...message, usage: usageOf(run.promptTokens, 0) } };
  const answer = async function* (): AsyncGenerator<string> {
    for await (const next of run.parts()) {
      if (Array.isArray(next)) {
        for (const part of next) yield* write(part);
        continue;
      }
      yield* end();
      const { cachedTokens, newTokens, promptTokens } = next;
      const fields = {
        delta: ending(next, hasCalled),
        usage: usageOf(promptTokens, newTokens, cachedTokens),
      };
      yield sentEvent({ type: 'message_delta', ...fields });
      yield sentEvent({ type: 'message_stop' });
    }
  };
  yield* withOpening([sentEvent(start)], answer());
}
