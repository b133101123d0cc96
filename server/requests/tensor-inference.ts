/**
 * Runs an inference of the Open Inference Protocol on whatever the model is.
 *
 * In      tensors; a model's status
 * Out     output tensors: the model's own; text_output of a language model; `output`, BYTES, of a handler, an element a request
 * Limits  MAX_ELEMENTS requests of a handler at once
 * Errors  BAD_REQUEST; those of the jobs
 * Source  Triton's vLLM backend for texts; TorchServe's kservev2 envelope for handlers
 */
import { ServingError } from '../../proto/errors.js';
import type { ContentPart } from './invoke-request.js';
import type { NamedTensor } from './predict-request.js';
import type { InferenceService, ModelStatus } from './service.js';
import type { Signature } from './signature.js';
import type { Target } from './target.js';
import { elementsOfTensor } from './tensor-elements.js';
import { packStrings } from './tensor-types.js';
import { stringOutput, textInference } from './text-inference.js';
import { TextOutputs } from './text-outputs.js';

const MAX_ELEMENTS = 256;

/** What a handler tells of itself: its requests, whatever they are. */
export const HANDLER_SIGNATURE: Signature = {
  inputs: [{ name: 'input', type: 'BYTES', shape: [-1] }],
  outputs: [{ name: 'output', type: 'BYTES', shape: [-1] }],
};

export interface TensorInference {
  inputs: readonly NamedTensor[];
  /** Names; null: all. */
  outputs: readonly string[] | null;
  /** What a text's answer is asked with. */
  parameters: Readonly<Record<string, unknown>>;
}

/** @throws ServingError */
export async function inferTensors(
  service: InferenceService,
  status: ModelStatus,
  { inputs, outputs, parameters }: TensorInference,
  target: Target,
  client: AbortSignal,
): Promise<readonly NamedTensor[]> {
  if (status.task === 'handler') return ofHandler(service, inputs, target, client);
  if (status.task === 'text-generation') {
    const { additional, echo, request, stream } = textInference(inputs, parameters, target);
    if (stream)
      throw new ServingError(
        'BAD_REQUEST',
        'stream is true: that needs generate_stream, or ModelStreamInfer by gRPC',
      );
    const { events, promptTokens } = await service.submit(request, client);
    const beside = new TextOutputs(additional, promptTokens);
    for await (const event of events) {
      if (event.kind === 'token') beside.add(event);
      if (event.kind !== 'finish') continue;
      return [stringOutput('text_output', `${echo}${event.generatedText}`), ...beside.tensors(event)];
    }
    throw new Error('a request ended without its finish');
  }
  const { cacheSalt: _salt, ...to } = target;
  const { events } = await service.submit({ kind: 'predict', ...to, inputs, outputs }, client);
  for await (const event of events) if (event.kind === 'value') return event.outputs;
  throw new Error('a prediction ended without its value');
}

/** What a handler is asked with, an element a request. @throws ServingError BAD_REQUEST */
export function handlerElements([input, another]: readonly NamedTensor[]): (number | boolean | string)[] {
  if (input === undefined || another !== undefined)
    throw new ServingError('BAD_REQUEST', 'A handler takes one input, whose elements are its requests');
  const elements = elementsOfTensor(input);
  if (elements.length > MAX_ELEMENTS)
    throw new ServingError(
      'BAD_REQUEST',
      `A handler takes at most ${MAX_ELEMENTS} elements, got ${elements.length}`,
    );
  return elements;
}

async function ofHandler(
  service: InferenceService,
  inputs: readonly NamedTensor[],
  target: Target,
  client: AbortSignal,
): Promise<readonly NamedTensor[]> {
  const elements = handlerElements(inputs);
  const { cacheSalt: _salt, ...to } = target;
  const answers = await Promise.all(
    elements.map(async (element, index) => {
      const isText = typeof element === 'string';
      const bytes = Buffer.from(isText ? element : JSON.stringify(element));
      const content: ContentPart[] = [
        { key: 'data', bytes, contentType: isText ? 'text/plain' : 'application/json' },
      ];
      const requestId = elements.length === 1 ? to.requestId : `${to.requestId}.${index}`;
      const { events } = await service.submit(
        { kind: 'invoke', ...to, requestId, properties: {}, content },
        client,
      );
      const pieces: Uint8Array[] = [];
      for await (const event of events) {
        if (event.kind === 'chunk') pieces.push(event.bytes);
        if (event.kind === 'head' && event.status >= 400)
          throw new ServingError(
            'HANDLER_FAILED',
            `The handler answered element ${index} with ${event.status}`,
          );
      }
      return Buffer.concat(pieces);
    }),
  );
  return [{ name: 'output', type: 'BYTES', shape: [answers.length], bytes: packStrings(answers) }];
}
