/**
 * What Text Generation Inference answers: {"generated_text", "details"?}, or an event a token.
 *
 * In      events of a generation; of several, where best_of asks for the best
 * Out     bodies; frames of a stream, the last of which carries generated_text and details
 * Source  Text Generation Inference's router: shapes. The best of several is the one whose log-probabilities sum up highest, as there
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
import { tgiErrorBody } from './tgi-errors.js';
import type { TgiFormat } from './tgi-request.js';

export function tgiAnswer(all: readonly Collected[], prompt: string, format: TgiFormat) {
  const [best, ...others] = bestFirst(all, logprobSum);
  const { finish } = best!;
  const generated_text = textOf(finish, prompt, format);
  if (!format.details) return { generated_text };
  const best_of_sequences = others.map((other) => ({
    generated_text: textOf(other.finish, prompt, format),
    ...sequence(other, format),
  }));
  return {
    generated_text,
    details: { ...sequence(best!, format), ...(others.length > 0 && { best_of_sequences }) },
  };
}

function sequence({ finish, prompt = [], tokens }: Collected, format: TgiFormat) {
  return {
    finish_reason: TGI_FINISH_REASONS[finish.reason],
    generated_tokens: finish.newTokens,
    seed: finish.seed,
    prefill: format.prefill ? prompt.map(prefillObject) : [],
    tokens: tokens.map(tokenObject),
    ...(format.topTokens && {
      top_tokens: tokens.map(({ topLogprobs }) => topLogprobs.map(alternativeObject)),
    }),
  };
}

export async function* tgiFrames(
  events: AsyncIterable<GenerationEvent>,
  prompt: string,
  format: TgiFormat,
  promptTokens: number,
): AsyncGenerator<string> {
  let index = 0;
  for await (const { finish, token } of tokensWithFinish(events)) {
    index += 1;
    const rest = finish === null ? '' : finish.text;
    const told =
      token === null
        ? { id: -1, text: rest, logprob: 0, special: true }
        : { ...tokenObject(token), text: token.text + rest };
    yield tgiFrame({
      index,
      token: told,
      ...(format.topTokens && token !== null && { top_tokens: token.topLogprobs.map(alternativeObject) }),
      generated_text: finish && textOf(finish, prompt, format),
      details:
        finish && format.details
          ? {
              finish_reason: TGI_FINISH_REASONS[finish.reason],
              generated_tokens: finish.newTokens,
              seed: finish.seed,
              input_length: promptTokens,
            }
          : null,
    });
  }
}

export const tgiErrorFrame = (error: ServingError): string => tgiFrame(tgiErrorBody(error));

const tgiFrame = (value: object): string => `data:${JSON.stringify(value)}\n\n`;

const textOf = (finish: FinishEvent, prompt: string, { fullText }: TgiFormat): string =>
  fullText ? prompt + finish.generatedText : finish.generatedText;

const tokenObject = ({ logprob, special, text, tokenId }: TokenEvent) => ({
  ...{ id: tokenId, text, logprob, special },
});

const alternativeObject = ({ logprob, text, tokenId }: TokenAlternative) => ({
  ...{ id: tokenId, text, logprob, special: false },
});

/** The first has no probability. */
const prefillObject = ({ logprob, own, tokenId }: PromptTokenEvent) => ({
  ...{ id: tokenId, text: own.text, logprob: Number.isNaN(logprob) ? null : logprob },
});
