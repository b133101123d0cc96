/**
 * Explanations by the Open Inference Protocol: TorchServe's /v2/models/{model}/explain.
 *
 * In      an infer request, its tensors as JSON: text_input of a language model, a handler's elements, an ONNX model's inputs. Its
 *         parameters say how, as the query of /explanations does
 * Out     one output `explanation`, BYTES: JSON of what /explanations answers, an element what is explained
 * Limits  of a handler's elements those of tensor-inference.ts
 * Errors  BAD_REQUEST; those of explanations/explain.ts
 * Source  KServe's V2 protocol; TorchServe's kservev2 envelope
 */
import type { IncomingHttpHeaders } from 'node:http';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { handlerElements } from '../../../requests/tensor-inference.js';
import { stringInput } from '../../../requests/text-inference.js';
import type { HttpContext } from '../../http-context.js';
import { explainEach } from '../explanations/explain.js';
import { explainOptionsOf } from '../explanations/explain-options.js';
import { type InferBody, type InferRequest, inferRequest } from './infer-body.js';

/** @throws ServingError */
export async function explainTensorsOf(
  context: HttpContext,
  status: ModelStatus,
  { body, headers, target }: { body: InferBody; headers: IncomingHttpHeaders; target: Target },
  client: AbortController,
) {
  const asked = inferRequest(body);
  const options = explainOptionsOf(asked.parameters);
  const bodies = bodiesOf(status, asked, body);
  const told = await explainEach(context, { bodies, headers, target, options }, client);
  return {
    model_name: status.name,
    model_version: status.version ?? '',
    ...(asked.id !== null && { id: asked.id }),
    outputs: [
      {
        ...{ name: 'explanation', datatype: 'BYTES', shape: [told.length] },
        data: told.map((one) => JSON.stringify(one)),
      },
    ],
  };
}

/** As /explanations takes them. @throws ServingError */
function bodiesOf({ task }: ModelStatus, { inputs }: InferRequest, { json, rest }: InferBody): unknown[] {
  if (task === 'text-generation') {
    const prompt = stringInput(inputs, 'text_input');
    if (prompt === null) throw new InvalidInput('Input text_input is missing', 'inputs');
    return [prompt];
  }
  if (task === 'handler') return handlerElements(inputs);
  if (rest.length > 0) throw new InvalidInput('What is explained is told as JSON, not as bytes', 'inputs');
  return [json];
}
