/**
 * OpenAI's answers: completion and chat.completion objects, and the chunks of their streams.
 *
 * In      events of the generations of one request; choice i is generation i
 * Out     objects for one JSON body; objects for a stream, one a token, then one with finish_reason a choice, then usage when asked
 * Errors  none of its own
 * Source  OpenAI API reference (completions, chat completions, their streaming objects)
 *
 * The end of the stream (`[DONE]`) and its framing belong to the path: SSE under /v1, JSON lines under /invocations.
 */
import { FINISH_REASONS } from '../../../requests/finish-reasons.js';
import type {
  FinishEvent,
  GenerationEvent,
  PromptTokenEvent,
  TokenEvent,
} from '../../../requests/job-events.js';
import type { Generation } from '../../../requests/service.js';
import { bestFirst, type Collected, logprobMean, mergeEvents } from '../../answers/generations.js';

/** How a choice says its end: vLLM's stop_reason is the stop string, or the id of the stop token, that did it. */
export const endOf = ({ reason, stop }: FinishEvent) => ({
  finish_reason: FINISH_REASONS[reason],
  stop_reason: stop ?? null,
});

/** What of the request shapes the answer; the same for both kinds. */
export interface AnswerHead {
  id: string;
  /** Seconds since 1970. */
  created: number;
  model: string;
}

/** How a kind of answer says its choices. */
export interface AnswerKind {
  object: string;
  chunkObject: string;
  choice(index: number, collected: Collected): object;
  /** What stands before the first token of a choice; null: nothing. */
  opening(index: number): object | null;
  /** None: it is held back. */
  token(index: number, event: TokenEvent): object[];
  finish(index: number, event: FinishEvent): object[];
  /** A token of the prompt, of a stream; absent: it is not told. */
  promptToken?(index: number, event: PromptTokenEvent): object[];
  /** What stands beside the choices; absent: nothing. */
  beside?(collected: readonly Collected[]): object;
}

/**
 * @param made prompt by prompt
 * @param candidates of a prompt, whose tokens count once …
 * @param perPrompt … of which so many are told, the best
 */
export function answer(
  head: AnswerHead,
  kind: AnswerKind,
  made: readonly Collected[],
  candidates: number,
  perPrompt = candidates,
) {
  const told = made
    .filter((_, index) => index % candidates === 0)
    .flatMap((_, prompt) => {
      const ofPrompt = made.slice(prompt * candidates, (prompt + 1) * candidates);
      return candidates === perPrompt ? ofPrompt : bestFirst(ofPrompt, logprobMean).slice(0, perPrompt);
    });
  return {
    id: head.id,
    object: kind.object,
    created: head.created,
    model: head.model,
    choices: told.map((each, index) => kind.choice(index, each)),
    ...kind.beside?.(told),
    usage: usage(
      made.map(({ finish }) => finish),
      candidates,
    ),
  };
}

/** What `stream_options` asks for; without include_usage no chunk has usage. */
export interface StreamUsage {
  /** A last chunk with usage and no choices; `usage: null` in all others. */
  include_usage?: boolean;
  /** The others tell what their choice has used so far, as vLLM's do. */
  continuous_usage_stats?: boolean;
}

export async function* chunks(
  head: AnswerHead,
  kind: AnswerKind,
  generations: readonly Generation[],
  perPrompt: number,
  { include_usage: includeUsage = false, continuous_usage_stats: continuous = false }: StreamUsage,
): AsyncGenerator<object> {
  const newTokens = generations.map(() => 0);
  const usageSoFar = (index: number) =>
    continuous ? usageOf(generations[index]!.promptTokens, newTokens[index]!) : null;
  const chunk = (index: number, choices: object[]) => ({
    id: head.id,
    object: kind.chunkObject,
    created: head.created,
    model: head.model,
    choices,
    ...(includeUsage && { usage: usageSoFar(index) }),
  });
  const opened = new Set<number>();
  const finishes: FinishEvent[] = [];
  let finished = 0;
  for await (const { index, event } of mergeEvents(generations)) {
    if (!opened.has(index)) {
      opened.add(index);
      const opening = kind.opening(index);
      if (opening !== null) yield chunk(index, [opening]);
    }
    newTokens[index] = event.kind === 'finish' ? event.newTokens : newTokens[index]! + 1;
    for (const choice of choicesOf(kind, index, event)) yield chunk(index, [choice]);
    if (event.kind !== 'finish') continue;
    finishes[index] = event;
    finished++;
  }
  if (finished !== generations.length) throw new Error('a stream of events ended without its finish');
  if (includeUsage) yield { ...chunk(0, []), usage: usage(finishes, perPrompt) };
}

function choicesOf(kind: AnswerKind, index: number, event: GenerationEvent): object[] {
  if (event.kind === 'prompt-token') return kind.promptToken?.(index, event) ?? [];
  return event.kind === 'token' ? kind.token(index, event) : kind.finish(index, event);
}

/** @param finishes by the index of their choice */
function usage(finishes: readonly FinishEvent[], perPrompt: number) {
  const all = finishes.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  const promptTokens = all / perPrompt;
  const completionTokens = finishes.reduce((sum, { newTokens }) => sum + newTokens, 0);
  // A prompt of several choices counts once: what the first of them to run found.
  let cachedTokens = 0;
  for (let first = 0; first < finishes.length; first += perPrompt) {
    const ofPrompt = finishes.slice(first, first + perPrompt);
    cachedTokens += Math.min(...ofPrompt.map((finish) => finish.cachedTokens ?? 0));
  }
  return {
    ...usageOf(promptTokens, completionTokens),
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

const usageOf = (promptTokens: number, completionTokens: number) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

export function chatLogprobs(logprobs: boolean, tokens: readonly TokenEvent[]) {
  if (!logprobs) return null;
  return {
    content: tokens.map((token) => ({
      ...labelled(tokenLabel(token), token.logprob, token.own?.bytes),
      top_logprobs: token.topLogprobs.map(({ bytes, logprob, text }) => labelled(text, logprob, bytes)),
    })),
    refusal: null,
  };
}

/** vLLM's prompt_logprobs of a chat stand beside its choices. */
export const chatPrompt = (isAsked: boolean): Pick<AnswerKind, 'beside'> =>
  isAsked ? { beside: ([first]) => ({ prompt_logprobs: promptLogprobs(first?.prompt ?? []) }) } : {};

export function chatKind(logprobs: boolean): AnswerKind {
  const tokenLogprobs = (tokens: readonly TokenEvent[]) => chatLogprobs(logprobs, tokens);
  const delta = (
    index: number,
    content: object,
    tokens: readonly TokenEvent[] | null,
    reason: string | null,
  ) => ({
    index,
    delta: content,
    logprobs: tokens === null ? null : tokenLogprobs(tokens),
    finish_reason: reason,
  });
  return {
    object: 'chat.completion',
    chunkObject: 'chat.completion.chunk',
    choice: (index, { tokens, finish }) => ({
      index,
      message: { role: 'assistant', content: finish.generatedText, refusal: null },
      logprobs: tokenLogprobs(tokens),
      ...endOf(finish),
    }),
    opening: (index) => delta(index, { role: 'assistant', content: '' }, null, null),
    token: (index, event) => [delta(index, { content: event.text }, [event], null)],
    finish: (index, event) => [
      ...(event.text === '' ? [] : [delta(index, { content: event.text }, null, null)]),
      { ...delta(index, {}, null, null), ...endOf(event) },
    ],
  };
}

/** The token's own text where it is known: an event's text is only what became certain with it. */
export function tokenLabel(token: TokenEvent): string {
  return (
    token.own?.text ?? token.topLogprobs.find(({ tokenId }) => tokenId === token.tokenId)?.text ?? token.text
  );
}

function labelled(text: string, logprob: number, bytes: readonly number[] = [...Buffer.from(text)]) {
  return { token: text, logprob, bytes };
}

/** vLLM's: null for the first token, then each token's own and the alternatives, by their ids. */
export function promptLogprobs(prompt: readonly PromptTokenEvent[]) {
  return prompt.map(({ logprob, own, tokenId, topLogprobs }, index) => {
    if (index === 0) return null;
    const rank = topLogprobs.findIndex((one) => one.tokenId === tokenId);
    const listed = topLogprobs.map((one, at) => [
      one.tokenId,
      { logprob: one.logprob, rank: at + 1, decoded_token: one.text },
    ]);
    const ownEntry = { logprob, rank: rank < 0 ? null : rank + 1, decoded_token: own.text };
    return { ...Object.fromEntries(listed), [tokenId]: ownEntry };
  });
}
