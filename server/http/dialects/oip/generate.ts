/**
 * Triton's generate and generate_stream.
 *
 * In      {"text_input", "parameters": fields of a completion, …}; fields beside text_input count as parameters
 * Out     {"model_name", "model_version", "text_output"}, beside it what "return_finish_reason" and its like ask for (text-outputs.ts);
 *         streamed: one such event a token
 * Errors  BAD_REQUEST: no language model; after the first event {"error": …}
 * Source  Triton's generate extension
 */
import type { FastifyBaseLogger } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { GenerationEvent } from '../../../requests/job-events.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { boolTensor, stringOutput, textInference } from '../../../requests/text-inference.js';
import {
  ADDITIONAL_OUTPUTS,
  type AdditionalOutput,
  askingInput,
  TextOutputs,
} from '../../../requests/text-outputs.js';
import { quote } from '../../../requests/validation.js';
import type { Answer } from '../../answers/answer.js';
import { logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import type { HttpContext } from '../../http-context.js';

/** They say how, not what. */
const OWN_FIELDS = ['text_input', 'parameters', 'id', 'stream', 'exclude_input_in_output'];
const ASKING = ADDITIONAL_OUTPUTS.map(askingInput);

/** @throws ServingError */
export async function generateAnswer(
  { countError, service }: Pick<HttpContext, 'countError' | 'service'>,
  log: FastifyBaseLogger,
  { name, task, version }: ModelStatus,
  body: Record<string, unknown>,
  target: Target,
  streamed: boolean,
  client: AbortController,
): Promise<Answer> {
  if (task !== null && task !== 'text-generation')
    throw new ServingError('BAD_REQUEST', `Model ${name} makes no text: ask it at /v2/models/${name}/infer`);
  const { exclude_input_in_output: atTop, parameters = {}, text_input: prompt } = body;
  const {
    exclude_input_in_output: within,
    stream: _streamed,
    ...given
  } = parameters as Record<string, unknown>;
  const beside = Object.entries(body).filter(([field]) => !OWN_FIELDS.includes(field));
  const { additional, fields } = additionalOf({ ...Object.fromEntries(beside), ...given });
  const { request } = textInference(
    [
      stringOutput('text_input', prompt as string),
      ...additional.map((name) => boolTensor(askingInput(name), true)),
    ],
    fields,
    target,
  );
  const echo = (atTop ?? within ?? true) === false ? (prompt as string) : '';
  const { events, promptTokens } = await service.submit(request, client.signal);
  const told = new TextOutputs(additional, promptTokens);
  const head = { model_name: name, model_version: version ?? '' };
  if (!streamed) {
    const make = async () => {
      for await (const event of events) {
        if (event.kind === 'token') told.add(event);
        if (event.kind !== 'finish') continue;
        return { ...head, text_output: `${echo}${event.generatedText}`, ...told.values(event) };
      }
      throw new Error('a request ended without its finish');
    };
    return { kind: 'value', make };
  }
  const frame = (value: object): string => `data: ${JSON.stringify(value)}\n\n`;
  const frames = withErrorFrames(
    pieces(events, echo, told, additional.length > 0, (text, more) =>
      frame({ ...head, text_output: text, ...more }),
    ),
    (error) => [frame({ error: error.message })],
    (error) => {
      client.abort();
      countError(error, error.httpStatus);
      logStreamError(log, error);
    },
  );
  return { kind: 'stream', contentType: 'text/event-stream', frames };
}

/** Which are asked for, and the fields that remain. @throws InvalidInput */
function additionalOf(given: Readonly<Record<string, unknown>>): {
  additional: AdditionalOutput[];
  fields: Record<string, unknown>;
} {
  for (const name of ASKING) {
    const value = given[name] ?? false;
    if (typeof value !== 'boolean')
      throw new InvalidInput(`${name} must be true or false, got ${quote(value)}`, name);
  }
  return {
    additional: ADDITIONAL_OUTPUTS.filter((name) => given[askingInput(name)] === true),
    fields: Object.fromEntries(Object.entries(given).filter(([name]) => !ASKING.includes(name))),
  };
}

async function* pieces(
  events: AsyncIterable<GenerationEvent>,
  echo: string,
  told: TextOutputs,
  tellsEnd: boolean,
  frame: (text: string, more: object) => string,
): AsyncGenerator<string> {
  let before = echo;
  for await (const event of events) {
    if (event.kind === 'prompt-token') continue;
    if (event.kind === 'token') told.add(event);
    const finish = event.kind === 'finish' ? event : null;
    const text = before + event.text;
    if (text !== '' || (tellsEnd && finish !== null)) yield frame(text, told.values(finish));
    before = '';
    if (event.kind === 'finish') return;
  }
}
