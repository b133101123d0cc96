/**
 * The forms that an answer to LMI's `inputs` may have: by option.output_formatter, by option.tgi_compat, by option.async_mode,
 * else by the request's `stream`.
 *
 * In      the model's formatter, a checked body
 * Out     whether it is streamed; bodies or frames of the generations
 * Errors  after the first frame: an error in the form's own words
 * Source  LMI's output formatters: json, jsonlines, sse; json_chat, jsonlines_chat, sse_chat (OpenAI's objects of a chat); TGI's with tgi_compat
 */
import type { ServingError } from '../../../../proto/errors.js';
import type { Generation, ModelStatus } from '../../../requests/service.js';
import type { Collected } from '../../answers/generations.js';
import {
  errorFramed,
  type Framing,
  framed,
  JSON_LINES_FRAMING,
  SSE_FRAMING,
} from '../openai/openai-handlers.js';
import { answer, chatKind, chunks } from '../openai/openai-response.js';
import { tgiAnswer, tgiErrorFrame, tgiFrames } from '../tgi/tgi-response.js';
import { asyncAnswer, asyncErrorLine, asyncLines } from './lmi-async.js';
import { type LmiBody, lmiFormat } from './lmi-request.js';
import { linesAsSse, lmiAnswer, lmiErrorLine, lmiLines, sseFrame } from './lmi-response.js';

export type OutputFormatter = NonNullable<ModelStatus['outputFormatter']>;

/** One text of the request, and what it has become. */
export interface LmiOutcome {
  prompt: string;
  /** Several where the best of them is asked for. */
  generations: readonly Generation[];
}

export interface LmiForm {
  streamed: boolean;
  /** Token by token, where it is streamed. */
  contentType: string;
  /** The answer to one text. */
  whole(prompt: string, collected: readonly Collected[]): object;
  frames(outcome: LmiOutcome): AsyncGenerator<string>;
  errorFrames(error: ServingError, prompt: string): string[];
  /** Log-probabilities are told. */
  needsLogprobs: boolean;
}

export function lmiForm(
  formatter: OutputFormatter | null,
  body: LmiBody,
  requestId: string,
  model: string,
): LmiForm {
  // A list has no stream; else a formatter that the model's configuration names wins over the request's `stream`.
  const many = Array.isArray(body.inputs);
  switch (formatter) {
    case 'json_chat':
      return chatForm(body, requestId, model, false, JSON_LINES_FRAMING);
    case 'jsonlines_chat':
      return chatForm(body, requestId, model, !many, JSON_LINES_FRAMING);
    case 'sse_chat':
      return chatForm(body, requestId, model, !many, SSE_FRAMING);
    case 'tgi':
      return tgiForm(body, !many && body.stream === true);
    case 'async':
      return asyncForm(body, !many && body.stream === true);
    default: {
      const streamed = !many && (formatter === null ? body.stream === true : formatter !== 'json');
      return lmiOwnForm(body, streamed, formatter === 'sse');
    }
  }
}

function lmiOwnForm(body: LmiBody, streamed: boolean, isSse: boolean): LmiForm {
  const format = lmiFormat(body);
  return {
    streamed,
    contentType: isSse ? 'text/event-stream' : 'application/jsonlines',
    whole: (prompt, collected) => lmiAnswer(collected, prompt, format),
    frames: ({ generations, prompt }) => {
      const lines = lmiLines(generations[0]!.events, prompt, format);
      return isSse ? linesAsSse(lines) : lines;
    },
    errorFrames: (error, prompt) => {
      const line = lmiErrorLine(error, prompt);
      return [isSse ? sseFrame(line) : line];
    },
    // Lines of a stream always carry them.
    needsLogprobs: streamed || format.details || format.candidates > 1,
  };
}

function chatForm(
  { parameters: { logprobs: asked = false } = {} }: LmiBody,
  requestId: string,
  model: string,
  streamed: boolean,
  framing: Framing,
): LmiForm {
  const head = { id: `chatcmpl-${requestId}`, created: Math.floor(Date.now() / 1000), model };
  const kind = chatKind(asked !== false);
  return {
    streamed,
    contentType: framing.contentType,
    whole: (_prompt, collected) => answer(head, kind, collected, collected.length),
    frames: ({ generations }) => framed(chunks(head, kind, generations, generations.length, {}), framing),
    errorFrames: (error) => errorFramed(error, framing),
    needsLogprobs: asked !== false,
  };
}

function asyncForm(body: LmiBody, streamed: boolean): LmiForm {
  const { candidates, details } = lmiFormat(body);
  return {
    streamed,
    contentType: 'application/jsonlines',
    whole: (prompt, collected) => asyncAnswer(collected, prompt, body),
    frames: ({ generations: [only], prompt }) => asyncLines(only!, prompt, body),
    errorFrames: (error) => [asyncErrorLine(error)],
    needsLogprobs: streamed || details || candidates > 1,
  };
}

/** Details unless they are not wanted, and a list around a whole answer. */
function tgiForm(body: LmiBody, streamed: boolean): LmiForm {
  const { returnFullText, topTokens } = lmiFormat(body);
  const { details = true, decoder_input_details: prefill = false } = body.parameters ?? {};
  const format = { details, prefill, topTokens, fullText: returnFullText };
  return {
    streamed,
    contentType: 'text/event-stream',
    whole: (prompt, collected) => [tgiAnswer(collected, prompt, format)],
    frames: ({ generations: [only], prompt }) => tgiFrames(only!.events, prompt, format, only!.promptTokens),
    errorFrames: (error) => [tgiErrorFrame(error)],
    needsLogprobs: true,
  };
}
