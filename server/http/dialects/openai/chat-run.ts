/**
 * One answer of a chat by its parts, for APIs that say it in objects of their own (Responses, Messages).
 *
 * In      a body as a chat of OpenAI's API has it; the model it goes to
 * Out     the whole answer, or its parts as they come; the last is how it ended
 * Errors  InvalidInput; those of the service
 */
import type { FinishEvent } from '../../../requests/job-events.js';
import type { Target } from '../../../requests/target.js';
import type { AnswerPart } from '../../../text/answer-parts/answer-part.js';
import { collectAll, submitAll } from '../../answers/generations.js';
import type { HttpContext } from '../../http-context.js';
import { type PartsReader, plainReader, type ReadAnswer, readAnswer } from './chat-answer.js';
import { answerFormatOf, planChat } from './chat-plan.js';
import { chatRequests, checkChatBody } from './chat-request.js';

export interface ChatRun {
  promptTokens: number;
  reader: PartsReader;
  /** Tokens of what it thought; so far, while it is read by its parts. */
  readonly thoughtTokens: number;
  whole(): Promise<{ answer: ReadAnswer; finish: FinishEvent }>;
  /** Parts joined as far as they came together; the finish last. */
  parts(): AsyncGenerator<AnswerPart[] | FinishEvent>;
}

/** @throws ServingError */
export async function runChat(
  context: HttpContext,
  body: Record<string, unknown>,
  target: Target,
  client: AbortController,
): Promise<ChatRun> {
  const checked = checkChatBody(body);
  if ('error' in checked) throw checked.error;
  const { plan, reader: own } = planChat(checked.value, answerFormatOf(context, target));
  const reader = own ?? plainReader;
  const requests = chatRequests(checked.value, target, plan);
  const [generation] = await submitAll(context.service, requests, client);
  const thoughts = new Thoughts();
  return {
    promptTokens: generation!.promptTokens,
    reader,
    get thoughtTokens() {
      return thoughts.tokens;
    },
    async whole() {
      const [collected] = await collectAll([generation!], client);
      const parser = reader.newParser();
      for (const { text } of collected!.tokens) thoughts.count(parser.push(text));
      return { answer: readAnswer(reader, collected!.finish.generatedText), finish: collected!.finish };
    },
    async *parts() {
      const parser = reader.newParser();
      const told = (parts: readonly AnswerPart[]): AnswerPart[] =>
        parts.filter((part) => !('index' in part) || part.index < reader.mostCalls);
      for await (const event of generation!.events) {
        if (event.kind === 'prompt-token') continue;
        const pushed = parser.push(event.text);
        if (event.kind === 'token') thoughts.count(pushed);
        const parts = told(pushed);
        if (event.kind === 'finish') parts.push(...told(parser.flush()));
        if (parts.length > 0) yield parts;
        if (event.kind !== 'finish') continue;
        yield event;
        return;
      }
    },
  };
}

/** A token that is held back, as a part of a tag or of a character, goes with those before it. */
class Thoughts {
  tokens = 0;
  #isInside = false;

  /** @param parts of one token */
  count(parts: readonly AnswerPart[]): void {
    if (parts.length === 0 ? this.#isInside : parts.some(({ kind }) => kind === 'reasoning')) this.tokens++;
    const last = parts.at(-1);
    if (last !== undefined) this.#isInside = last.kind === 'reasoning';
  }
}
