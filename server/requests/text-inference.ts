/**
 * Text models over the protocol, by the tensors that Triton's vLLM backend has: text_input, stream, sampling_parameters → text_output.
 *
 * In      an infer request of a text model, its parameters as plain values
 * Out     what is told beside the text (text-outputs.ts); a GenerateRequest, checked as a completion of OpenAI's API is: sampling_parameters is a JSON object of its fields
 * Errors  BAD_REQUEST: no text_input, unknown inputs, parameters out of their range, more than one choice
 * Source  Triton's vLLM backend; the request's parameters may hold the fields too (max_tokens, temperature, …), as Triton's generate does
 */
import { ServingError } from '../../proto/errors.js';
import { boundedJson } from './bounded-json.js';
import { checkCompletionBody, completionRequests } from './completion-request.js';
import type { GenerateRequest } from './generate-request.js';
import type { NamedTensor } from './predict-request.js';
import type { Signature } from './signature.js';
import type { Target } from './target.js';
import { packStrings } from './tensor-types.js';
import { ADDITIONAL_OUTPUTS, type AdditionalOutput, askingInput, needsLogprobs } from './text-outputs.js';

const INPUTS = [
  ...['text_input', 'stream', 'sampling_parameters', 'exclude_input_in_output'],
  ...ADDITIONAL_OUTPUTS.map(askingInput),
];

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
  /** What is told beside the text. */
  additional: readonly AdditionalOutput[];
}

/** @throws ServingError BAD_REQUEST */
export function textInference(
  inputs: readonly NamedTensor[],
  parameters: Readonly<Record<string, unknown>>,
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
  const additional = ADDITIONAL_OUTPUTS.filter((name) => boolInput(inputs, askingInput(name)) ?? false);
  const body = { ...fieldsOf(parameters), ...samplingParameters(inputs), prompt };
  const checked = checkCompletionBody(body);
  if ('error' in checked) throw checked.error;
  const [own, another] = completionRequests(checked.value, target);
  if (!own || another) throw new ServingError('BAD_REQUEST', 'n must be 1: a response holds one text');
  const withoutPrompt = boolInput(inputs, 'exclude_input_in_output') ?? true;
  return {
    request: needsLogprobs(additional) ? { ...own, logprob: true } : own,
    stream: boolInput(inputs, 'stream') ?? false,
    echo: withoutPrompt ? '' : prompt,
    additional,
  };
}

function samplingParameters(inputs: readonly NamedTensor[]): Record<string, unknown> {
  const text = stringInput(inputs, 'sampling_parameters');
  if (text === null || text.trim() === '') return {};
  const value = boundedJson(text, 'sampling_parameters', 'sampling_parameters');
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new ServingError('BAD_REQUEST', 'sampling_parameters must be a JSON object');
}

/** Triton's names that say how, not what, are not fields of a completion. */
function fieldsOf(parameters: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const own = ['triton_', 'sequence_', 'priority', 'timeout', 'binary_data'];
  return Object.fromEntries(
    Object.entries(parameters).filter(([name]) => !own.some((prefix) => name.startsWith(prefix))),
  );
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** The only string of an input, if it is there. @throws ServingError BAD_REQUEST */
export function stringInput(inputs: readonly NamedTensor[], name: string): string | null {
  const tensor = inputs.find((input) => input.name === name);
  if (!tensor) return null;
  const bytes = Buffer.from(tensor.bytes);
  if (tensor.type !== 'BYTES' || bytes.length < 4 || bytes.readUInt32LE(0) + 4 !== bytes.length) {
    throw bad(`Input ${name} must be BYTES of one element, got ${tensor.type} [${tensor.shape.join(',')}]`);
  }
  return bytes.toString('utf8', 4);
}

/** The only truth value of an input, if it is there. @throws ServingError BAD_REQUEST */
export function boolInput(inputs: readonly NamedTensor[], name: string): boolean | null {
  const tensor = inputs.find((input) => input.name === name);
  if (!tensor) return null;
  if (tensor.type === 'BOOL' && tensor.bytes.byteLength === 1) return tensor.bytes[0] !== 0;
  throw bad(`Input ${name} must be BOOL of one element, got ${tensor.type} [${tensor.shape.join(',')}]`);
}

export const boolTensor = (name: string, value: boolean): NamedTensor => ({
  ...{ name, type: 'BOOL', shape: [1], bytes: Uint8Array.of(value ? 1 : 0) },
});

export const stringOutput = (name: string, text: string): NamedTensor => ({
  name,
  type: 'BYTES',
  shape: [1],
  bytes: packStrings([text]),
});
