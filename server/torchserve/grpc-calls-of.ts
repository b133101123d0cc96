/**
 * What answers TorchServe's gRPC calls: the same as its HTTP routes.
 *
 * In      messages as plain data
 * Out     pieces of predictions; JSON of what management tells
 * Errors  ServingError; a handler's refusal by the status that it gave
 * Source  TorchServe's gRPC API: 0 and '' are not given
 */

import type { FastifyBaseLogger } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import type { ManagementCall, PredictionsMessage, TorchServeCalls } from '../grpc/torchserve-servers.js';
import { type Answer, allOf } from '../http/answers/answer.js';
import { ContentBody } from '../http/bodies/model-bodies.js';
import { describedByHandlers } from '../http/dialects/torchserve/customized.js';
import { health } from '../http/dialects/torchserve/health.js';
import { TextBody } from '../http/dialects/torchserve/prediction-body.js';
import { answerPrediction } from '../http/dialects/torchserve/torchserve-answer.js';
import {
  TorchServeRefusal,
  torchServeMessage,
  torchServeStatus,
} from '../http/dialects/torchserve/torchserve-errors.js';
import type {
  RegisterParameters,
  ScaleParameters,
  TorchServeModels,
} from '../http/dialects/torchserve/torchserve-models.js';
import { methodNotAllowed, prettyJson } from '../http/errors.js';
import type { HttpContext } from '../http/http-context.js';
import { modelStatus } from '../http/model-target.js';
import { boundedJson } from '../requests/bounded-json.js';
import { clientController } from '../requests/client-controller.js';
import type { Target } from '../requests/target.js';

type Fields = Readonly<Record<string, string | number | boolean>>;
/** Keys of `input` that hold what a language model is asked, the first that is there. */
const TEXT_KEYS = ['data', 'body', 'inputs', 'prompt', 'text'];

export function grpcCallsOf(context: HttpContext, models: TorchServeModels): TorchServeCalls {
  return {
    ping: () => prettyJson({ status: health(context.management.list()) }),
    predict: (message, target, streamed, client) =>
      predict(context, models, message, target, streamed, client),
    manage: async (call, fields) => manage(context, models, call, fields),
    told: (error) => ({ status: torchServeStatus(error), message: torchServeMessage(error) }),
  };
}

async function* predict(
  context: HttpContext,
  models: TorchServeModels,
  { input, model_name: name, model_version: asked }: PredictionsMessage,
  target: Target,
  streamed: boolean,
  client: AbortController,
): AsyncGenerator<Uint8Array> {
  const wanted = asked === '' ? null : asked;
  const to = { ...target, version: models.find(name, wanted).version };
  const isHandler = modelStatus(context, to)?.task === 'handler';
  const body = isHandler ? contentOf(input) : textOf(input, streamed);
  const request = {
    headers: { explain: 'False' },
    // Nothing of a request is logged besides what the jobs log.
    log: context.logger as unknown as FastifyBaseLogger,
    query: {},
  };
  const answer = await answerPrediction(context, request, body, to, wanted, client);
  yield* piecesOf(answer, isHandler);
}

const contentOf = (input: PredictionsMessage['input']): ContentBody =>
  new ContentBody(Object.entries(input).map(([key, bytes]) => ({ key, bytes, contentType: null })));

/** JSON where it is some, else the prompt; streamed where the call is. */
function textOf(input: PredictionsMessage['input'], streamed: boolean): unknown {
  const key = TEXT_KEYS.find((one) => input[one] !== undefined) ?? Object.keys(input)[0];
  if (key === undefined) throw new ServingError('BAD_REQUEST', 'The input is empty');
  const text = input[key]!.toString('utf8');
  if (!/^\s*[[{]/.test(text)) return streamed ? { inputs: text, stream: true } : new TextBody(text);
  const body = boundedJson(text, `Input ${key}`, null);
  return streamed && !Array.isArray(body) ? { ...(body as object), stream: true } : body;
}

/** @param isHandler its pieces are sent as they are; a language model's lines give their token's text */
async function* piecesOf(answer: Answer, isHandler: boolean): AsyncGenerator<Uint8Array> {
  if (answer.kind === 'value') {
    yield Buffer.from(JSON.stringify(await answer.make()));
    return;
  }
  if (answer.kind === 'stream') {
    for await (const text of answer.frames.texts) yield Buffer.from(isHandler ? text : tokenOf(text));
    return;
  }
  const { chunks, status } = await answer.make();
  if (status < 400) {
    yield* chunks;
    return;
  }
  throw refusalOf(status, (await allOf(chunks)).toString('utf8'));
}

/** The token of LMI's line; any other line is told whole. */
function tokenOf(line: string): string {
  try {
    const { token } = JSON.parse(line) as { token?: { text?: unknown } };
    return typeof token?.text === 'string' ? token.text : line;
  } catch {
    return line;
  }
}

/** A handler has answered with an error. */
function refusalOf(status: number, text: string): ServingError {
  let message = text.slice(0, 500);
  try {
    const told = (JSON.parse(text) as { message?: unknown }).message;
    if (typeof told === 'string') message = told;
  } catch {
    // As it is.
  }
  return new TorchServeRefusal('HANDLER_FAILED', 'InternalServerException', status, message);
}

async function manage(
  context: HttpContext,
  models: TorchServeModels,
  call: ManagementCall,
  fields: Fields,
): Promise<string> {
  const text = (name: string): string | null => (fields[name] === '' ? null : (fields[name] as string));
  const model = text('model_name') ?? '';
  const version = text('model_version');
  const needsModelApi = call === 'RegisterModel' || call === 'UnregisterModel';
  if (needsModelApi && !models.parts.config.enableModelApi) {
    const { code } = methodNotAllowed();
    throw new TorchServeRefusal(code, 'MethodNotAllowedException', 405, 'Model API disabled');
  }
  const status = async (told: Promise<{ message: string }> | { message: string }) =>
    prettyJson({ status: (await told).message });
  switch (call) {
    case 'DescribeModel':
      return prettyJson(
        fields.customized === true
          ? await describedByHandlers(context, models, model, version, clientController())
          : models.describe(model, version),
      );
    case 'ListModels':
      return prettyJson(models.list(numberOf(fields.limit), numberOf(fields.next_page_token)));
    case 'RegisterModel':
      return status(models.register(given(fields) as RegisterParameters));
    case 'ScaleWorker':
      return status(models.scale(model, version, given(fields) as ScaleParameters));
    case 'SetDefault':
      return status(models.setDefault(model, version ?? ''));
    case 'UnregisterModel':
      return status(models.unregister(model, version));
  }
}

const numberOf = (value: unknown): number | null => (typeof value === 'number' && value !== 0 ? value : null);

/** What is not given stands there as 0 or ''; `synchronous` is false then, as in TorchServe. */
const given = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== 0 && value !== ''));
