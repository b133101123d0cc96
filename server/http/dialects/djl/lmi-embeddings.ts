/**
 * Answers a text-embedding request of DJLServing's LMI.
 *
 * In      a checked body ({"inputs": text | texts}), the embedding model it goes to
 * Out     a list of vectors, one a text, also for one text
 * Limits  a text that is longer than the model takes is cut, as DJL does; "truncate": false, or option.truncate_texts, refuses it
 * Errors  ServingError; InvalidInput
 * Source  LMI's text-embedding task; "truncate" is text-embeddings-inference's
 */
import type { FastifyBaseLogger } from 'fastify';
import type { EmbedRequest } from '../../../requests/embed-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { Target } from '../../../requests/target.js';
import type { Answer } from '../../answers/answer.js';
import { embedAll, shortDecimals } from '../../answers/embed-all.js';
import type { HttpContext } from '../../http-context.js';
import { withOwnIds } from '../openai/openai-handlers.js';
import type { LmiBody } from './lmi-request.js';

/** @throws ServingError */
export async function answerLmiEmbeddings(
  { service }: HttpContext,
  log: FastifyBaseLogger,
  body: LmiBody,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  const parameters = Object.keys(body.parameters ?? {});
  if (parameters.length > 0) {
    log.warn({ parameters: parameters.slice(0, 20) }, 'parameters are dropped: an embedding has none');
  }
  if (body.stream === true)
    throw new InvalidInput('An embedding cannot be streamed: leave stream out', 'stream');
  const { truncate = null } = body as { truncate?: unknown };
  if (truncate !== null && typeof truncate !== 'boolean') {
    throw new InvalidInput('truncate must be true or false', 'truncate');
  }
  const texts = Array.isArray(body.inputs) ? body.inputs : [body.inputs];
  const requests = texts.map(
    (text): EmbedRequest => ({
      ...target,
      kind: 'embed',
      prompt: { kind: 'text', text },
      truncate,
      truncateDefault: true,
      maxTokens: null,
      dimensions: null,
    }),
  );
  const collect = await embedAll(service, withOwnIds(requests), client, shortDecimals);
  return { kind: 'value', make: async () => (await collect()).vectors };
}
