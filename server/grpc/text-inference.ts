/**
 * Text models over the protocol, by the tensors that Triton's vLLM backend has: text_input, stream, sampling_parameters → text_output.
 *
 * In      an infer request of a text model
 * Out     a GenerateRequest, checked as a completion of OpenAI's API is: sampling_parameters is a JSON object of its fields
 * Errors  BAD_REQUEST: no text_input, unknown inputs, parameters out of their range, more than one choice
 * Source  Triton's vLLM backend; the request's parameters may hold the fields too (max_tokens, temperature, …), as Triton's generate does
 */
import { ServingError } from '../../proto/errors.js';
import { checkCompletionBody, completionRequests } from '../requests/completion-request.js';
import type { GenerateRequest } from '../requests/generate-request.js';
import type { NamedTensor } from '../requests/predict-request.js';
import type { Signature } from '../requests/signature.js';
import type { Target } from '../requests/target.js';
import type { InferParameter, Parameters } from './oip-messages.js';
import { boolInput, stringInput } from './oip-tensors.js';

const INPUTS = ['text_input', 'stream', 'sampling_parameters', 'exclude_input_in_output'];

/** What a text model tells of itself. */
export const TEXT_SIGNATURE: Signature = {
  inputs: [
    { name: 'text_input', type: 'BYTES', shape: [1] },
    { name: 'stream', type: 'BOOL', shape: [1] },
    { name: 'sampling_parameters', type: 'BYTES', shape: [1] },
  ],
  outputs: [{ name: 'text_output', type: 'BYTES', shape: [-1] }],
};

export interface TextInference {
  request: GenerateRequest;
  /** A response a token. */
  stream: boolean;
  /** The answer begins with the prompt. */
  echo: string;
}

/** @throws ServingError BAD_REQUEST */
export function textInference(
  inputs: readonly NamedTensor[],
  parameters: Parameters,
  target: Target,
): TextInference {
  const unknown = inputs.find(({ name }) => !INPUTS.includes(name));
  if (unknown) {
    throw new ServingError(
      'BAD_REQUEST',
      `A text model has no input ${unknown.name}; it has ${INPUTS.join(', ')}`,
    );
  }
  const prompt = stringInput(inputs, 'text_input');
  if (prompt === null) throw new ServingError('BAD_REQUEST', 'Input text_input is missing');
  const body = { ...valuesOf(parameters), ...samplingParameters(inputs), prompt };
  const checked = checkCompletionBody(body);
  if ('error' in checked) throw checked.error;
  const [request, another] = completionRequests(checked.value, target);
  if (!request || another) throw new ServingError('BAD_REQUEST', 'n must be 1: a response holds one text');
  const withoutPrompt = boolInput(inputs, 'exclude_input_in_output') ?? true;
  return { request, stream: boolInput(inputs, 'stream') ?? false, echo: withoutPrompt ? '' : prompt };
}

function samplingParameters(inputs: readonly NamedTensor[]): Record<string, unknown> {
  const text = stringInput(inputs, 'sampling_parameters');
  if (text === null || text.trim() === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ServingError('BAD_REQUEST', 'sampling_parameters is not JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new ServingError('BAD_REQUEST', 'sampling_parameters must be a JSON object');
}

/** The request's own parameters as values. Triton's names that say how, not what, are not fields of a completion. */
function valuesOf(parameters: Parameters): Record<string, unknown> {
  const own = ['triton_', 'sequence_', 'priority', 'timeout', 'binary_data'];
  return Object.fromEntries(
    Object.entries(parameters)
      .filter(([name]) => !own.some((prefix) => name.startsWith(prefix)))
      .map(([name, parameter]) => [name, parameterValue(parameter)]),
  );
}

function parameterValue(parameter: InferParameter): unknown {
  const field = parameter.parameter_choice;
  if (field === undefined) return null;
  const value = parameter[field];
  return field === 'int64_param' || field === 'uint64_param' ? Number(value) : value;
}
