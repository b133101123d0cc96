/**
 * From the socket to the slot and back: one AbortSignal for a client that goes away, and a body written as it is made.
 *
 * In      frames of text, each of which becomes one HTTP chunk as soon as it exists
 * Out     the response; its head is written only when the first frame exists, so that an error until then still has a status
 * Limits  a reader that takes nothing for `stallLimitMs` is dropped
 * Errors  before the first frame: thrown on to the dialect's error handler; after it: the dialect's own error frames
 */
import type { ServerResponse } from 'node:http';
import type { FastifyBaseLogger, FastifyReply } from 'fastify';
import { ServingError } from '../../../proto/errors.js';

/** Aborted when the connection ends before the response does. */
export function clientSignal(reply: FastifyReply): AbortController {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller;
}

/**
 * Writes frames as they come.
 *
 * @param frames left early (its `return` is called) when the client is gone
 */
export async function sendFrames(
  reply: FastifyReply,
  contentType: string,
  frames: AsyncGenerator<string | Uint8Array>,
  stallLimitMs: number,
): Promise<FastifyReply> {
  const first = await frames.next();
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(reply.statusCode, { ...reply.getHeaders(), 'content-type': contentType } as Record<
    string,
    string
  >);
  try {
    for (let frame = first; !frame.done && !raw.destroyed; frame = await frames.next()) {
      if (raw.write(frame.value)) continue;
      if ((await drained(raw, stallLimitMs)) === 'stalled') {
        reply.log.warn({ stallLimitMs }, 'dropped a reader that takes nothing');
        raw.destroy();
      }
    }
    if (!raw.destroyed) raw.end();
  } catch (error) {
    // Frames end with an error frame where the dialect has one; what comes here is a bug or a client that is gone.
    if (!raw.destroyed) {
      reply.log.error({ err: error }, 'a stream broke');
      raw.destroy();
    }
  } finally {
    await frames.return(undefined);
  }
  return reply;
}

/** Frames, and what the dialect says of an error that comes after the first of them. */
export async function* withErrorFrames(
  frames: AsyncIterable<string>,
  errorFrames: (error: ServingError) => readonly string[],
  onError: (error: ServingError) => void,
): AsyncGenerator<string> {
  let begun = false;
  try {
    for await (const frame of frames) {
      begun = true;
      yield frame;
    }
  } catch (thrown) {
    if (!begun) throw thrown;
    const error = ServingError.from(thrown);
    onError(error);
    yield* errorFrames(error);
  }
}

/** A client that went away is no fault of the server's. */
export function logStreamError(log: FastifyBaseLogger, error: ServingError): void {
  if (error.code === 'CANCELLED') log.info('the client left before the end of its stream');
  else log.error({ err: error }, 'a stream ended with an error');
}

function drained(raw: ServerResponse, limitMs: number): Promise<'drained' | 'closed' | 'stalled'> {
  return new Promise((resolve) => {
    const done = (how: 'drained' | 'closed' | 'stalled') => {
      clearTimeout(timer);
      raw.off('drain', onDrain);
      raw.off('close', onClose);
      resolve(how);
    };
    const onDrain = () => done('drained');
    const onClose = () => done('closed');
    const timer = setTimeout(() => done('stalled'), limitMs);
    raw.once('drain', onDrain);
    raw.once('close', onClose);
    if (raw.destroyed) done('closed');
  });
}
