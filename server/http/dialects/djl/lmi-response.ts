/**
 * What LMI answers: {"generated_text", "details"?} at once, or a line a token.
 *
 * In      events of one generation
 * Out     JSON bodies; lines of a stream, the last of which carries generated_text (and details when asked)
 * Errors  after the first line: a line with token id −1 and finish_reason "error"
 * Source  LMI's output formatters
 */
import type { ServingError } from '../../../../proto/errors.js';
import type {
  FinishEvent,
  GenerationEvent,
  PromptTokenEvent,
  TokenAlternative,
  TokenEvent,
} from '../../../requests/job-events.js';
import { TGI_FINISH_REASONS } from '../../answers/finish-reasons.js';
import { bestFirst, type Collected, logprobSum } from '../../answers/generations.js';
import { tokensWithFinish } from '../../answers/tokens-with-finish.js';
import type { LmiFormat } from './lmi-request.js';

/**
 * @param all of one text: the best is told, the others in its details
 * @param prompt text as it came in
 */
export function lmiAnswer(all: readonly Collected[], prompt: string, format: LmiFormat) {
  const [best, ...others] = bestFirst(all, logprobSum);
  const { finish } = best!;
  return {
    generated_text: fullText(finish, prompt, format),
    ...(format.details && {
      details: {
        ...details(finish, prompt),
        ...sequence(best!, format),
        ...(others.length > 0 && {
          best_of_sequences: others.map((other) => ({
            generated_text: fullText(other.finish, prompt, format),
            ...details(other.finish, prompt),
            ...sequence(other, format),
          })),
        }),
      },
    }),
  };
}

function sequence({ prompt = [], tokens }: Collected, format: LmiFormat) {
  return {
    tokens: tokens.map(tokenObject),
    ...(format.prefill && { prefill: prompt.map(prefillObject) }),
    ...(format.topTokens && {
      top_tokens: tokens.map(({ topLogprobs }) => topLogprobs.map(alternativeObject)),
    }),
  };
}

/** One line a token, as soon as it exists; the last carries the whole text. */
export async function* lmiLines(
  events: AsyncIterable<GenerationEvent>,
  prompt: string,
  format: LmiFormat,
): AsyncGenerator<string> {
  for await (const { finish, token } of tokensWithFinish(events)) {
    if (token === null) {
      // Alone only when it came later than its token: then there is no token to show with it.
      yield line({
        token: { id: -1, text: finish.text, log_prob: 0, special_token: true },
        ...ending(finish, prompt, format),
      });
    } else if (finish !== null) {
      const told = { ...tokenObject(token), text: token.text + finish.text };
      yield line({ token: told, ...topTokens(token, format), ...ending(finish, prompt, format) });
    } else yield line({ token: tokenObject(token), ...topTokens(token, format) });
  }
}

export function lmiErrorLine(error: ServingError, prompt: string): string {
  return line({
    token: { id: -1, text: '', log_prob: -1, special_token: true, error_msg: error.message },
    generated_text: '',
    details: { finish_reason: 'error', generated_tokens: 0, inputs: prompt },
  });
}

/** The same objects as server-sent events (output_formatter=sse). */
export async function* linesAsSse(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const text of lines) yield sseFrame(text);
}

export function sseFrame(text: string): string {
  return `data: ${text.trimEnd()}\n\n`;
}

function ending(finish: FinishEvent, prompt: string, format: LmiFormat) {
  return {
    generated_text: fullText(finish, prompt, format),
    ...(format.details && { details: details(finish, prompt) }),
  };
}

function fullText(finish: FinishEvent, prompt: string, format: LmiFormat): string {
  return format.returnFullText ? prompt + finish.generatedText : finish.generatedText;
}

function details(finish: FinishEvent, prompt: string) {
  return {
    finish_reason: TGI_FINISH_REASONS[finish.reason],
    generated_tokens: finish.newTokens,
    inputs: prompt,
  };
}

function tokenObject(token: TokenEvent) {
  return {
    id: token.tokenId,
    text: token.text,
    log_prob: token.logprob,
    ...(token.special && { special_token: true }),
  };
}

/** The first has no probability. */
function prefillObject({ logprob, own, tokenId }: PromptTokenEvent) {
  return { id: tokenId, text: own.text, log_prob: Number.isNaN(logprob) ? null : logprob };
}

function alternativeObject({ tokenId, text, logprob }: TokenAlternative) {
  return { id: tokenId, text, log_prob: logprob };
}

function topTokens(token: TokenEvent, format: LmiFormat) {
  return format.topTokens ? { top_tokens: token.topLogprobs.map(alternativeObject) } : {};
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
