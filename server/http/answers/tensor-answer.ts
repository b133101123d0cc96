/**
 * Answers a request for tensors (engines that know no tokens) at DJLServing's paths.
 *
 * In      the JSON body as it came, or NumPy's bytes; the model it goes to
 * Out     an Answer: the outputs in the form of the question (tensor-json.ts, numpy-format.ts)
 * Errors  BAD_REQUEST: not tensors, or not the model's
 */

import { ServingError } from '../../../proto/errors.js';
import type { NamedTensor, PredictRequest } from '../../requests/predict-request.js';
import type { Accepted, EventsOf, ModelStatus } from '../../requests/service.js';
import type { Target } from '../../requests/target.js';
import { NPY_TYPES, NPZ_TYPES, NumpyBody, type TensorBody } from '../bodies/model-bodies.js';
import { readNpy, readNpz, writeNpy, writeNpz } from '../bodies/numpy-format.js';
import { tensorsAsJson, tensorsOfJson } from '../bodies/tensor-json.js';
import type { HttpContext } from '../http-context.js';
import type { Answer, Content } from './answer.js';

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
  const numpy = body.value instanceof NumpyBody ? body.value : null;
  const { form, inputs } =
    numpy === null
      ? tensorsOfJson(body.value, status.signature)
      : { form: 'listed' as const, inputs: await inputsOf(numpy) };
  const { cacheSalt: _salt, ...to } = target;
  const request: PredictRequest = { kind: 'predict', ...to, inputs, outputs: null };
  const accepted = await service.submit(request, client.signal);
  if (numpy !== null)
    return { kind: 'content', make: async () => numpyContent(await outputsOf(accepted), numpy) };
  return { kind: 'value', make: async () => tensorsAsJson(await outputsOf(accepted), form) };
}

/** Arrays without names of their own go by their places. */
async function inputsOf({ bytes, isArchive, maxBytes }: NumpyBody): Promise<NamedTensor[]> {
  if (!isArchive) return [readNpy('', bytes)];
  const tensors = await readNpz(bytes, maxBytes);
  const byPlace = tensors.every(({ name }, index) => name === `arr_${index}`);
  return byPlace ? tensors.map((tensor) => ({ ...tensor, name: '' })) : tensors;
}

/** One output of a question in one array is one array; else an archive. */
async function numpyContent(outputs: readonly NamedTensor[], { isArchive }: NumpyBody): Promise<Content> {
  const [only, another] = outputs;
  const isOne = !isArchive && only !== undefined && another === undefined;
  const bytes = isOne ? writeNpy(only) : await writeNpz(outputs);
  const contentType = isOne ? NPY_TYPES[0]! : NPZ_TYPES[0]!;
  const chunks = (async function* () {
    yield bytes;
  })();
  return { status: 200, contentType, headers: {}, isStream: false, chunks };
}

async function outputsOf({ events }: Accepted<EventsOf<PredictRequest>>) {
  for await (const event of events) if (event.kind === 'value') return event.outputs;
  throw new Error('a prediction ended without its value');
}
