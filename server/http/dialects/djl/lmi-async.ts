/**
 * What LMI's newer handler (vLLM's, option.async_mode) answers to `inputs`: TGI's words in lines, where the older one has its own.
 *
 * In      events of one generation; of several, where the best is asked for
 * Out     {"generated_text", "details"?}; a line a token, {"index", "token", "generated_text", "details"}, and an empty one at the end
 * Errors  after the first line: {"error": …} as vLLM says it
 * Source  LMI's lmi_vllm handler: shapes. Its finish_reason of a whole answer is vLLM's stop_reason, null where no stop string ended it
 */
import type { ServingError } from '../../../../proto/errors.js';
import { FINISH_REASONS } from '../../../requests/finish-reasons.js';
import type { PromptTokenEvent, TokenEvent } from '../../../requests/job-events.js';
import { asList } from '../../../requests/sampling-fields.js';
import type { Generation } from '../../../requests/service.js';
import { bestFirst, type Collected, logprobSum } from '../../answers/generations.js';
import { tokensWithFinish } from '../../answers/tokens-with-finish.js';
import { openAiErrorObject } from '../openai/openai-errors.js';
import { type LmiBody, lmiFormat } from './lmi-request.js';

export function asyncAnswer(all: readonly Collected[], prompt: string, body: LmiBody) {
  const { details, prefill, returnFullText } = lmiFormat(body);
  const [{ finish, prompt: told = [], tokens }] = bestFirst(all, logprobSum) as [Collected];
  const generated_text = `${returnFullText ? prompt : ''}${finish.generatedText}`;
  if (!details) return { generated_text };
  return {
    generated_text,
    details: {
      finish_reason: finish.reason === 'stop-string' ? stopOf(body) : null,
      generated_tokens: finish.newTokens,
      seed: seedOf(body),
      prefill: prefill ? told.slice(1).map(prefillObject) : [],
      tokens: tokens.map((token) => tokenObject(token, token.own?.text ?? token.text)),
    },
  };
}

export async function* asyncLines(
  { events, promptTokens }: Generation,
  prompt: string,
  body: LmiBody,
): AsyncGenerator<string> {
  const { details, returnFullText } = lmiFormat(body);
  for await (const { finish, token } of tokensWithFinish(events)) {
    const rest = finish?.text ?? '';
    yield line({
      index: 0,
      token: token === null ? { id: -1, text: rest, logprob: 0 } : tokenObject(token, `${token.text}${rest}`),
      generated_text: finish && `${returnFullText ? prompt : ''}${finish.generatedText}`,
      details:
        finish && details
          ? {
              finish_reason: FINISH_REASONS[finish.reason],
              seed: seedOf(body),
              generated_tokens: finish.newTokens,
              input_length: promptTokens,
            }
          : null,
    });
  }
  yield '\n';
}

export const asyncErrorLine = (error: ServingError): string => line(openAiErrorObject(error));

/** As it was asked for: one that was drawn is told nobody. */
const seedOf = ({ parameters = {} }: LmiBody): number | null => parameters.seed ?? null;

/** The stop string that the text was cut at: one that is asked for alone is known. */
function stopOf({ parameters = {} }: LmiBody): string | null {
  const [only, another] = [...asList(parameters.stop), ...asList(parameters.stop_sequences)];
  return another === undefined ? (only ?? null) : null;
}

const tokenObject = ({ logprob, tokenId }: TokenEvent, text: string) => ({ id: tokenId, text, logprob });

const prefillObject = ({ logprob, own, tokenId }: PromptTokenEvent) => ({
  ...{ id: tokenId, text: own.text, logprob },
});

const line = (value: object): string => `${JSON.stringify(value)}\n`;
