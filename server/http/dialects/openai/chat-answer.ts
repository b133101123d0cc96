/**
 * Answers of a chat whose text has parts: what the model thinks, says and calls (text/answer-parts).
 *
 * In      events of each choice; a new parser for each
 * Out     AnswerKind: messages with reasoning_content and tool_calls, and their deltas
 * Errors  none of its own
 * Source  OpenAI API reference (function calling, streaming); vLLM's reasoning_content
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { FinishEvent, TokenEvent } from '../../../requests/job-events.js';
import { type AnswerParser, type AnswerPart, joinParts } from '../../../text/answer-parts/answer-part.js';
import { type AnswerKind, chatLogprobs, endOf } from './openai-response.js';

export interface PartsReader {
  newParser: () => AnswerParser;
  /** Calls that are told. */
  mostCalls: number;
  /** Mistral's templates take ids of nine letters alone. */
  shortIds: boolean;
  withReasoning: boolean;
}

/** For a model whose text is the answer. */
export const plainReader: PartsReader = {
  newParser: () => ({ push: (text) => (text === '' ? [] : [{ kind: 'content', text }]), flush: () => [] }),
  mostCalls: 0,
  shortIds: false,
  withReasoning: true,
};

interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** A whole answer by its parts. */
export interface ReadAnswer {
  reasoning: string;
  content: string;
  calls: ToolCall[];
}

export function readAnswer(reader: PartsReader, text: string): ReadAnswer {
  const parser = reader.newParser();
  const answer: ReadAnswer = { reasoning: '', content: '', calls: [] };
  for (const part of joinParts([...parser.push(text), ...parser.flush()])) {
    if (part.kind === 'reasoning' || part.kind === 'content') answer[part.kind] += part.text;
    else if (part.index >= reader.mostCalls) continue;
    else if (part.kind === 'call') {
      answer.calls.push({
        id: idOf(part, reader),
        type: 'function',
        function: { name: part.name, arguments: '' },
      });
    } else answer.calls[part.index]!.function.arguments += part.text;
  }
  return answer;
}

export function partsChatKind(logprobs: boolean, reader: PartsReader): AnswerKind {
  const choices = new Map<number, { parser: AnswerParser; hasCalled: boolean }>();
  const choiceOf = (index: number) => {
    let choice = choices.get(index);
    if (choice === undefined) {
      choice = { parser: reader.newParser(), hasCalled: false };
      choices.set(index, choice);
    }
    return choice;
  };
  const delta = (index: number, content: object, tokens: readonly TokenEvent[], reason: string | null) => ({
    index,
    delta: content,
    logprobs: tokens.length === 0 ? null : chatLogprobs(logprobs, tokens),
    finish_reason: reason,
  });
  const deltasOf = (index: number, parts: readonly AnswerPart[], tokens: readonly TokenEvent[]): object[] => {
    const choice = choiceOf(index);
    const contents = parts.flatMap((part) => {
      if (part.kind === 'call') choice.hasCalled = true;
      return deltaOf(part, reader) ?? [];
    });
    // A token that is held back still has its probability.
    if (contents.length === 0 && logprobs && tokens.length > 0) contents.push({});
    return contents.map((content, at) => delta(index, content, at === 0 ? tokens : [], null));
  };
  return {
    object: 'chat.completion',
    chunkObject: 'chat.completion.chunk',
    choice: (index, { finish, tokens }) => {
      const { calls, content, reasoning } = readAnswer(reader, finish.generatedText);
      return {
        index,
        message: {
          role: 'assistant',
          content: content === '' && calls.length > 0 ? null : content,
          refusal: null,
          ...(reasoning !== '' && reader.withReasoning && thought(reasoning)),
          ...(calls.length > 0 && { tool_calls: calls }),
        },
        logprobs: chatLogprobs(logprobs, tokens),
        ...ending(finish, calls.length > 0),
      };
    },
    opening: (index) => delta(index, { role: 'assistant', content: '' }, [], null),
    token: (index, event) => deltasOf(index, choiceOf(index).parser.push(event.text), [event]),
    finish: (index, event) => {
      const { parser } = choiceOf(index);
      const rest = deltasOf(index, [...parser.push(event.text), ...parser.flush()], []);
      return [...rest, { ...delta(index, {}, [], null), ...ending(event, choiceOf(index).hasCalled) }];
    },
  };
}

const ending = (finish: FinishEvent, hasCalled: boolean) => ({
  ...endOf(finish),
  ...(hasCalled && finish.reason !== 'length' && { finish_reason: 'tool_calls' }),
});

/** By vLLM's name of today, and by that of before, which DeepSeek's clients read. */
const thought = (text: string) => ({ reasoning: text, reasoning_content: text });

/** null: it is not told. */
function deltaOf(part: AnswerPart, reader: PartsReader): object | null {
  switch (part.kind) {
    case 'content':
      return { content: part.text };
    case 'reasoning':
      return reader.withReasoning ? thought(part.text) : null;
    case 'call': {
      const { index, name } = part;
      if (index >= reader.mostCalls) return null;
      const call = { index, id: idOf(part, reader), type: 'function', function: { name, arguments: '' } };
      return { tool_calls: [call] };
    }
    case 'arguments':
      if (part.index >= reader.mostCalls) return null;
      return { tool_calls: [{ index: part.index, function: { arguments: part.text } }] };
  }
}

function idOf({ id }: Extract<AnswerPart, { kind: 'call' }>, { shortIds }: PartsReader): string {
  if (id !== undefined) return id;
  return shortIds ? randomBytes(8).toString('hex').slice(0, 9) : `call_${randomUUID().replaceAll('-', '')}`;
}
