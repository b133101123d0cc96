/**
 * Answers of a completion: texts, with the prompt before them and log-probabilities where they are asked for.
 *
 * In      events of each choice
 * Out     AnswerKind
 * Errors  none of its own
 * Source  OpenAI API reference (completions); vLLM's prompt_logprobs
 */
import type { PromptTokenEvent, TokenEvent } from '../../../requests/job-events.js';
import { type AnswerKind, endOf, promptLogprobs, tokenLabel } from './openai-response.js';

export interface CompletionAnswer {
  logprobs: boolean;
  /** Texts to put before the choices (echo), by index; null: that of the tokens. Absent: none. */
  echoed?: readonly (string | null)[];
  /** The prompt's tokens are told: of an echo with log-probabilities, or of ids. */
  tellsPrompt: boolean;
  promptLogprobs: boolean;
}

interface Told {
  label: string;
  text: string;
  logprob: number;
  topLogprobs: TokenEvent['topLogprobs'];
}

export function completionKind({
  echoed,
  logprobs,
  promptLogprobs: asksPrompt,
  tellsPrompt,
}: CompletionAnswer): AnswerKind {
  const isEcho = echoed !== undefined;
  // Where the next token's text begins, by choice.
  const offsets = new Map<number, number>();
  const tokenLogprobs = (index: number, told: readonly Told[]) => {
    if (!logprobs) return null;
    const textOffsets = told.map(({ text }) => {
      const offset = offsets.get(index) ?? 0;
      offsets.set(index, offset + text.length);
      return offset;
    });
    return {
      tokens: told.map(({ label }) => label),
      token_logprobs: told.map(({ logprob }) => logprob),
      top_logprobs: told.map(({ topLogprobs }) =>
        topLogprobs.length === 0
          ? null
          : Object.fromEntries(topLogprobs.map(({ text, logprob }) => [text, logprob])),
      ),
      text_offset: textOffsets,
    };
  };
  const choice = (index: number, text: string, told: readonly Told[], reason: string | null) => ({
    index,
    text,
    logprobs: tokenLogprobs(index, told),
    finish_reason: reason,
  });
  const ofPrompt = (prompt: readonly PromptTokenEvent[]): Told[] => (isEcho ? prompt.map(promptTold) : []);
  return {
    object: 'text_completion',
    chunkObject: 'text_completion',
    choice: (index, { finish, prompt = [], tokens }) => {
      const before = isEcho ? (echoed[index] ?? textOf(prompt)) : '';
      const told = [...ofPrompt(prompt), ...tokens.map(tokenTold)];
      return {
        ...choice(index, `${before}${finish.generatedText}`, told, null),
        ...endOf(finish),
        ...(asksPrompt && { prompt_logprobs: promptLogprobs(prompt) }),
      };
    },
    opening: (index) => (!isEcho || tellsPrompt ? null : choice(index, echoed[index] ?? '', [], null)),
    promptToken: (index, event) => (isEcho ? [choice(index, event.own.text, [promptTold(event)], null)] : []),
    token: (index, event) => [choice(index, event.text, [tokenTold(event)], null)],
    finish: (index, event) => [{ index, text: event.text, logprobs: null, ...endOf(event) }],
  };
}

const tokenTold = (event: TokenEvent): Told => ({
  label: tokenLabel(event),
  text: event.text,
  logprob: event.logprob,
  topLogprobs: event.topLogprobs,
});

const promptTold = ({ logprob, own, topLogprobs }: PromptTokenEvent): Told => ({
  label: own.text,
  text: own.text,
  logprob,
  topLogprobs,
});

/** Characters may lie over several tokens. */
const textOf = (prompt: readonly PromptTokenEvent[]): string =>
  Buffer.concat(prompt.map(({ own }) => Buffer.from(own.bytes))).toString();
