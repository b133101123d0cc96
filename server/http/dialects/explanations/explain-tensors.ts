/**
 * Which elements of a tensor a number of a model's output comes from.
 *
 * In      tensors as /predictions takes them; `input` (default: the first of floats), `output` (default: the first), `target`, an index
 *         into the output (default: the largest)
 * Out     importances in the input's shape
 * Limits  MAX_FEATURES elements; an element that is left out is 0; inputs of floats
 * Errors  BAD_REQUEST
 */
import { ServingError } from '../../../../proto/errors.js';
import { integratedGradients } from '../../../explanations/attribution.js';
import type { NamedTensor, PredictRequest } from '../../../requests/predict-request.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { elementsOfTensor, tensorsOfJson } from '../../bodies/tensor-json.js';
import type { HttpContext } from '../../http-context.js';
import { DEFAULT_STEPS, type ExplainOptions, explainMasked, toldOf } from './explain-options.js';

const MAX_FEATURES = 4096;

export async function explainTensors(
  { service }: Pick<HttpContext, 'service'>,
  body: unknown,
  { signature }: ModelStatus,
  target: Target,
  options: ExplainOptions,
  signal: AbortSignal,
) {
  if (signature === null) throw new ServingError('MODEL_NOT_READY', `Model is not ready: ${target.model}`);
  const { inputs } = tensorsOfJson(body, signature);
  const named = inputs.map((tensor, at) => ({ ...tensor, name: tensor.name || signature.inputs[at]!.name }));
  const input = named.find(({ name, type }) =>
    options.input === undefined ? type.startsWith('FP') : name === options.input,
  );
  if (input === undefined || !['FP32', 'FP64'].includes(input.type))
    throw bad(
      `${options.input ?? 'no input'} is a tensor of FP32 or FP64: others cannot be left out by halves`,
    );
  const values = elementsOfTensor(input).map(Number);
  if (values.length > MAX_FEATURES)
    throw bad(`input ${input.name} has ${values.length} elements, of at most ${MAX_FEATURES}`);
  const ask = async (point: readonly number[]): Promise<NamedTensor> => {
    const changed = named.map((tensor) =>
      tensor === input ? { ...tensor, bytes: bytesOf(input, point) } : tensor,
    );
    const request: PredictRequest = { kind: 'predict', ...target, inputs: changed, outputs: null };
    const { events } = await service.submit(request, signal);
    for await (const event of events) {
      if (event.kind !== 'value') continue;
      const output = event.outputs.find(({ name }) => name === (options.output ?? event.outputs[0]?.name));
      if (output === undefined) throw bad(`the model has no output ${options.output}`);
      return output;
    }
    throw new Error('a prediction ended without its value');
  };
  const answer = elementsOfTensor(await ask(values)).map(Number);
  const at = options.target === undefined ? largestAt(answer) : Number(options.target);
  if (!Number.isInteger(at) || at < 0 || at >= answer.length)
    throw bad(`target is ${options.target}; the output has elements 0 … ${answer.length - 1}`);
  const score = async (point: readonly number[]): Promise<number> =>
    Number(elementsOfTensor(await ask(point))[at]);
  const told =
    options.method === 'integrated_gradients'
      ? await integratedGradients(
          values,
          values.map(() => 0),
          score,
          options.steps ?? DEFAULT_STEPS,
        )
      : await explainMasked(
          values.length,
          (kept) => score(values.map((value, index) => (kept[index] ? value : 0))),
          options,
        );
  return { input: input.name, shape: input.shape, target: at, ...toldOf(options.method ?? 'shapley', told) };
}

function bytesOf({ type }: NamedTensor, point: readonly number[]): Uint8Array {
  const values = type === 'FP64' ? Float64Array.from(point) : Float32Array.from(point);
  return new Uint8Array(values.buffer);
}

const largestAt = (values: readonly number[]): number =>
  values.reduce((best, one, at) => (one > values[best]! ? at : best), 0);
const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
