/**
 * What text-generation-inference answers: {"generated_text", "details"?} at once, or an event a token.
 *
 * In      what was collected of one request, or best_of of them; events of one
 * Out     JSON bodies; server-sent events `data:{…}`, the last with the whole text
 * Source  TGI's router: GenerateResponse, StreamResponse
 */
import type {
  FinishEvent,
  FinishReason,
  GenerationEvent,
  PromptTokenEvent,
  TokenAlternative,
  TokenEvent,
} from '../../../requests/job-events.js';
import { finishIfThere } from '../../answers/finish-beside.js';
import type { Collected } from '../../answers/generations.js';
import type { TgiFormat } from './tgi-request.js';

const FINISH_REASONS: Record<FinishReason, string> = {
  'end-id': 'eos_token',
  length: 'length',
  'stop-string': 'stop_sequence',
};

/** Of several the likeliest by its tokens' mean is the answer, the others stand in its details. */
export function tgiAnswer(all: readonly Collected[], format: TgiFormat) {
  const [best, ...others] = [...all].sort((a, b) => meanLogprob(b) - meanLogprob(a));
  const sequence = (one: Collected) => ({
    ...ending(one.finish, format),
    prefill: format.prefill ? (one.prompt ?? []).map(prefillToken) : [],
    tokens: one.tokens.map(tokenObject),
    ...(format.topTokens && { top_tokens: one.tokens.map(topTokens) }),
  });
  const text = ({ finish }: Collected): string => format.before + finish.generatedText;
  return {
    generated_text: text(best!),
    ...(format.details && {
      details: {
        ...sequence(best!),
        ...(others.length > 0 && {
          best_of_sequences: others.map((one) => ({ generated_text: text(one), ...sequence(one) })),
        }),
      },
    }),
  };
}

/** An event a token, as soon as it exists; the last one's tells the whole text. */
export async function* tgiEvents(
  events: AsyncIterable<GenerationEvent>,
  promptTokens: number,
  format: TgiFormat,
): AsyncGenerator<string> {
  const iterator = events[Symbol.asyncIterator]();
  const last = (token: TokenEvent, finish: FinishEvent, index: number): string =>
    frame({
      index,
      ...streamed({ ...token, text: token.text + finish.text }, format),
      generated_text: format.before + finish.generatedText,
      details: format.details ? { ...ending(finish, format), input_length: promptTokens } : null,
    });
  try {
    let next = iterator.next();
    for (let index = 1; ; index++) {
      const { done, value: event } = await next;
      if (done) throw new Error('a stream of events ended without its finish');
      // Alone only when it came later than its token.
      if (event.kind === 'finish') {
        yield last(NO_TOKEN, event, index);
        return;
      }
      next = iterator.next();
      next.catch(() => undefined);
      if (event.kind === 'prompt-token') continue;
      const finish = await finishIfThere(next);
      if (finish !== null) {
        yield last(event, finish, index);
        return;
      }
      yield frame({ index, ...streamed(event, format), ...UNFINISHED });
    }
  } finally {
    await iterator.return?.();
  }
}

const UNFINISHED = { generated_text: null, details: null };
const NO_TOKEN: TokenEvent = {
  kind: 'token',
  tokenId: 0,
  text: '',
  special: true,
  logprob: 0,
  topLogprobs: [],
};

export const frame = (value: unknown): string => `data:${JSON.stringify(value)}\n\n`;

/** A greedy text has no seed. */
const ending = ({ newTokens, reason, seed }: FinishEvent, { sampled }: TgiFormat) => ({
  finish_reason: FINISH_REASONS[reason],
  generated_tokens: newTokens,
  seed: sampled ? seed : null,
});

const streamed = (token: TokenEvent, format: TgiFormat) => ({
  token: tokenObject(token),
  ...(format.topTokens && { top_tokens: topTokens(token) }),
});

const tokenObject = ({ logprob, special, text, tokenId }: TokenEvent) => ({
  ...{ id: tokenId, text, logprob: Number.isNaN(logprob) ? null : logprob, special },
});

const topTokens = ({ topLogprobs }: TokenEvent) => topLogprobs.map(alternative);

const alternative = ({ logprob, text, tokenId }: TokenAlternative) => ({
  ...{ id: tokenId, text, logprob, special: false },
});

/** The first has none. */
const prefillToken = ({ logprob, own, tokenId }: PromptTokenEvent) => ({
  ...{ id: tokenId, text: own.text, logprob: Number.isNaN(logprob) ? null : logprob },
});

const meanLogprob = ({ tokens }: Collected): number =>
  tokens.reduce((sum, { logprob }) => sum + logprob, 0) / Math.max(1, tokens.length);
