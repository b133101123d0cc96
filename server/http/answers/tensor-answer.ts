/**
 * Answers a request for tensors (engines that know no tokens) at DJLServing's paths.
 *
 * In      the JSON body as it came, the model it goes to
 * Out     an Answer: the outputs as JSON, in the form of the question (tensor-json.ts)
 * Errors  BAD_REQUEST: not tensors, or not the model's
 */

import { ServingError } from '../../../proto/errors.js';
import type { PredictRequest } from '../../requests/predict-request.js';
import type { Accepted, EventsOf, ModelStatus } from '../../requests/service.js';
import { tensorsAsJson, tensorsOfJson } from '../bodies/tensor-json.js';
import type { Target } from '../dialects/openai/openai-request.js';
import type { HttpContext } from '../http-context.js';
import type { Answer } from './answer.js';

/** A body that is tensors' JSON, whatever its keys: its model takes nothing else. */
export class TensorBody {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }
}

export async function answerTensors(
  { service }: Pick<HttpContext, 'service'>,
  body: TensorBody,
  status: ModelStatus,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  if (status.signature === null) {
    throw new ServingError('MODEL_NOT_READY', `Model is not ready: ${status.name}`);
  }
  const { form, inputs } = tensorsOfJson(body.value, status.signature);
  const { model, priority, requestId, timeoutMs, version } = target;
  const request: PredictRequest = {
    kind: 'predict',
    ...{ requestId, model, version, inputs, outputs: null },
    ...(priority === undefined ? {} : { priority }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
  const accepted = await service.submit(request, client.signal);
  return { kind: 'value', make: async () => tensorsAsJson(await outputsOf(accepted), form) };
}

async function outputsOf({ events }: Accepted<EventsOf<PredictRequest>>) {
  for await (const event of events) if (event.kind === 'value') return event.outputs;
  throw new Error('a prediction ended without its value');
}
