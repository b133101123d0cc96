/**
 * Requests and answers of the Open Inference Protocol over HTTP: JSON, and tensors' bytes behind it.
 *
 * In      a JSON body; with the header Inference-Header-Content-Length so many bytes of JSON, then the bytes of each input that has
 *         parameters.binary_data_size, in order
 * Out     NamedTensors, the wanted outputs and how each is told; the answer, in one form or the other
 * Limits  the body limit; tensor-json.ts, tensor-types.ts
 * Errors  BAD_REQUEST naming the input
 * Source  Open Inference Protocol, REST; Triton's binary tensor data extension
 */

import type { FastifyReply } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { isObject } from '../../../../proto/is-object.js';
import { type NamedTensor, TENSOR_TYPES, type TensorType } from '../../../requests/predict-request.js';
import type { TensorInference } from '../../../requests/tensor-inference.js';
import { checkTensor } from '../../../requests/tensor-types.js';
import { elementsOfTensor, listedTensor } from '../../bodies/tensor-json.js';

export const HEADER_LENGTH = 'inference-header-content-length';
const MAX_TENSORS = 1024;

/** A body as the parser leaves it. */
export class InferBody {
  readonly json: unknown;
  /** What lies behind the JSON. */
  readonly rest: Buffer;

  constructor(json: unknown, rest: Buffer) {
    this.json = json;
    this.rest = rest;
  }
}

export interface InferRequest extends TensorInference {
  id: string | null;
  isBinary(output: string): boolean;
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** @throws ServingError BAD_REQUEST */
export function inferRequest({ json, rest }: InferBody): InferRequest {
  if (!isObject(json)) throw bad('The request body must be an object with inputs');
  const { id, inputs } = json;
  if (!Array.isArray(inputs) || inputs.length === 0 || inputs.length > MAX_TENSORS)
    throw bad(`inputs must be a list of 1 … ${MAX_TENSORS} tensors`);
  if (id !== undefined && (typeof id !== 'string' || id.length > 256))
    throw bad('id must be a string of at most 256 characters');
  let at = 0;
  const tensors = inputs.map((input: unknown) => {
    if (!isObject(input)) throw bad('An input must be an object with name, shape, datatype and data');
    const size = parametersOf(input).binary_data_size;
    if (size === undefined) return listedTensor(input);
    const tensor = rawTensor(input, rest, at, size);
    at += tensor.bytes.byteLength;
    return tensor;
  });
  if (at !== rest.length)
    throw bad(`${rest.length} bytes lie behind the JSON, but binary_data_size of all inputs is ${at}`);
  const parameters = parametersOf(json);
  return { id: (id as string | undefined) ?? null, inputs: tensors, parameters, ...wanted(json, parameters) };
}

function rawTensor(
  { datatype, name, shape }: Record<string, unknown>,
  rest: Buffer,
  at: number,
  size: unknown,
): NamedTensor {
  if (typeof name !== 'string') throw bad('An input has no name');
  if (!TENSOR_TYPES.includes(datatype as TensorType))
    throw bad(
      `datatype of ${name} is ${String(datatype).slice(0, 40)}; it must be one of ${TENSOR_TYPES.join(', ')}`,
    );
  if (!Array.isArray(shape)) throw bad(`Input ${name} has no shape`);
  if (!Number.isSafeInteger(size) || (size as number) < 0 || at + (size as number) > rest.length)
    throw bad(
      `binary_data_size of ${name} is ${String(size).slice(0, 40)}, but ${rest.length - at} bytes are left`,
    );
  // Aligned anew: the JSON before it may have any length.
  const bytes = new Uint8Array(rest.subarray(at, at + (size as number)));
  const tensor = { name, type: datatype as TensorType, shape: shape as number[], bytes };
  checkTensor(tensor);
  return tensor;
}

function wanted(json: Record<string, unknown>, parameters: Readonly<Record<string, unknown>>) {
  const { outputs } = json;
  const byDefault = parameters.binary_data_output === true;
  if (outputs === undefined || (Array.isArray(outputs) && outputs.length === 0))
    return { outputs: null, isBinary: () => byDefault };
  if (!Array.isArray(outputs) || outputs.length > MAX_TENSORS)
    throw bad(`outputs must be a list of at most ${MAX_TENSORS} names`);
  const binary = new Map<string, boolean>();
  for (const output of outputs as unknown[]) {
    if (!isObject(output) || typeof output.name !== 'string') throw bad('An output has no name');
    const { binary_data: asked, classification } = parametersOf(output);
    if (classification !== undefined) throw bad('classification of an output is not served');
    binary.set(output.name, asked === undefined ? byDefault : asked === true);
  }
  return { outputs: [...binary.keys()], isBinary: (name: string) => binary.get(name) ?? byDefault };
}

function parametersOf({ parameters }: Record<string, unknown>): Readonly<Record<string, unknown>> {
  if (parameters === undefined || parameters === null) return {};
  if (isObject(parameters)) return parameters;
  throw bad('parameters must be an object');
}

/** Sends outputs as they were asked for. */
export function sendOutputs(
  reply: FastifyReply,
  head: { model_name: string; model_version: string; id?: string },
  outputs: readonly NamedTensor[],
  isBinary: (output: string) => boolean,
): FastifyReply {
  const listed = outputs.map((output) => {
    const { bytes, name, shape, type } = output;
    const told = { name, datatype: type, shape };
    return isBinary(name)
      ? { ...told, parameters: { binary_data_size: bytes.byteLength } }
      : { ...told, data: elementsOfTensor(output) };
  });
  const json = JSON.stringify({ ...head, outputs: listed });
  const raw = outputs.filter(({ name }) => isBinary(name)).map(({ bytes }) => bytes);
  if (raw.length === 0) return reply.type('application/json').send(json);
  const bytes = Buffer.from(json);
  reply.header('Inference-Header-Content-Length', String(bytes.length));
  return reply.type('application/octet-stream').send(Buffer.concat([bytes, ...raw]));
}
