/**
 * What a handler says of its model itself: `customizedMetadata` of a description that is asked for with customized=true.
 *
 * In      TorchServe's describe request: no body, header `describe: True`, which BaseHandler answers by describeHandle()
 * Out     its text, beside the description; a model that is no handler, or that says nothing, has none
 * Limits  MAX_BYTES
 * Errors  503 in TorchServe's words: the model has no worker; what the handler fails with
 * Source  TorchServe's describe API
 */

import { randomUUID } from 'node:crypto';
import { ServingError } from '../../../../proto/errors.js';
import { allOf } from '../../answers/answer.js';
import { answerHandler } from '../../answers/handler-answer.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { withoutWorker } from './torchserve-answer.js';
import type { TorchServeModels } from './torchserve-models.js';

const MAX_BYTES = 1_048_576;
const ASKED = { describe: 'True', explain: 'False' };

/** As TorchServeModels.describe. @throws ServingError */
export async function describedByHandlers(
  context: HttpContext,
  models: TorchServeModels,
  name: string,
  version: string | null,
  client: AbortController,
): Promise<object[]> {
  const described = models.describe(name, version);
  return Promise.all(
    described.map(async (one) => {
      const { modelVersion } = one as { modelVersion: string };
      const told = await metadataOf(context, name, modelVersion, client);
      return told === '' ? one : { ...one, customizedMetadata: told };
    }),
  );
}

async function metadataOf(
  context: HttpContext,
  model: string,
  version: string,
  client: AbortController,
): Promise<string> {
  const target = { requestId: randomUUID(), model, version: version === '' ? null : version };
  if (modelStatus(context, target)?.task !== 'handler') return '';
  try {
    const answer = await answerHandler(context, new ContentBody([]), ASKED, target, client);
    if (answer.kind !== 'content') throw new Error('a handler answers with content');
    const { chunks, status } = await answer.make();
    const bytes = await allOf(chunks);
    if (status >= 400) throw new ServingError('HANDLER_FAILED', bytes.toString('utf8').slice(0, 500));
    if (bytes.length > MAX_BYTES)
      throw new ServingError(
        'HANDLER_FAILED',
        `The description has ${bytes.length} bytes, at most ${MAX_BYTES} are told`,
      );
    return bytes.toString('utf8');
  } catch (error) {
    throw withoutWorker(error, model, target.version);
  }
}
