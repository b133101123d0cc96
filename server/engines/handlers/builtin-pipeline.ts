/**
 * The built-in handler of a pipeline pack: feeds in, answers out.
 *
 * In      a folder with model.spec.json; JSON {"texts": […]} or {"inputs": {…}}, or a form with a field a feed
 * Out     the pipeline's answer as JSON: tensors as nested lists, bytes as base64
 * Errors  what load() refuses; 400 for feeds that do not fit
 */

import { load } from '../../../pipeline/pack.js';
import type { Feeds, Pipeline } from '../../../pipeline/pipeline.js';
import { plainOf, type Value, valueOfJson } from '../../../pipeline/pipeline-value.js';
import { ServingError } from '../../../proto/errors.js';
import { isObject } from '../../../proto/is-object.js';
import type { Context } from './context.js';
import type { HandlerRequest } from './handler-messages.js';
import type { LoadedHandler } from './handler-shape.js';
import { encodedValue } from './value-bytes.js';

const BAD_REQUEST = 400;

export function builtInHandler({ systemProperties }: Context): LoadedHandler {
  let pipeline: Pipeline | null = null;
  return {
    takesContext: false,
    initialise: async () => {
      pipeline = await load(systemProperties.model_dir);
    },
    run: (requests) =>
      Promise.all(
        requests.map(async (request) => {
          const { body, status } = await answer(pipeline!, request);
          const { bytes, contentType } = encodedValue(body);
          return {
            kind: 'whole' as const,
            head: { status, contentType, headers: {}, isStream: false },
            bytes,
          };
        }),
      ),
  };
}

async function answer(
  pipeline: Pipeline,
  request: HandlerRequest,
): Promise<{ status: number; body: unknown }> {
  try {
    return { status: 200, body: plainOf(await pipeline.run(feedsOf(request))) };
  } catch (error) {
    // One bad item does not fail its batch.
    if (!(error instanceof ServingError)) throw error;
    return {
      status: BAD_REQUEST,
      body: { code: BAD_REQUEST, type: 'BadRequestException', message: error.message },
    };
  }
}

/** @throws ServingError BAD_REQUEST */
function feedsOf({ content }: HandlerRequest): Feeds {
  const [first] = content;
  if (first === undefined) throw bad('The request has no body');
  if (first.key !== '') return Object.fromEntries(content.map((part) => [part.key, partValue(part)]));
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(first.bytes));
  } catch (error) {
    throw bad(`The body is not JSON: ${(error as Error).message}`);
  }
  const given = isObject(json) && isObject(json.inputs) ? json.inputs : json;
  if (!isObject(given)) throw bad('The body must be an object with a key a feed');
  return valueOfJson(given) as Feeds;
}

/** A file is bytes; a field of a form is text. */
const partValue = ({ bytes, contentType }: HandlerRequest['content'][number]): Value =>
  contentType?.startsWith('text/') ? new TextDecoder().decode(bytes) : new Uint8Array(bytes);

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
