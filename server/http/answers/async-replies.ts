/**
 * DJLServing's asynchronous mode over HTTP: `x-synchronous: false` starts an answer, `x-starting-token` reads it; without them it
 * is sent at once.
 *
 * In      headers x-synchronous, x-starting-token, x-max-items
 * Out     start: 200, empty, x-next-token. Poll: 202 until there is something, then the items that are there; x-next-token while
 *         more may come. The token stands in X-Amzn-SageMaker-Custom-Attributes too
 * Errors  what a synchronous request is refused with before its jobs are accepted; INVALID_TOKEN; a failed answer is a 500
 * Source  DJLServing 0.36: InferenceRequestHandler, its paginated answers
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type AccessKey, idOf } from '../../access/access-key.js';
import { integerHeader } from '../../requests/request-control.js';
import { djlErrorWith } from '../dialects/djl/djl-errors.js';
import type { HttpContext } from '../http-context.js';
import { isHttp2 } from '../http2-requests.js';
import { type Answer, sendAnswer } from './answer.js';
import type { Reservation } from './async-results.js';
import { clientSignal } from './stream-reply.js';

const PENDING_REASON = 'The model result is not yet available';
const FAILED_STATUS = 500;
const MAX_ITEMS = 1_000_000;

/** Waits for the answer and sends it, or with `x-synchronous: false` sends a token for it. @throws as `answer`, and as sendLater */
export async function answerNowOrLater(
  context: HttpContext,
  { accessKey, headers }: FastifyRequest,
  reply: FastifyReply,
  answer: (client: AbortController) => Promise<Answer>,
): Promise<FastifyReply> {
  if (headers['x-synchronous']?.toString().toLowerCase() === 'false')
    return sendLater(context, accessKey, reply, answer);
  const stallLimitMs = context.config.chunkedReadTimeoutSeconds * 1000;
  return sendAnswer(reply, await answer(clientSignal(reply)), stallLimitMs);
}

/** @throws ServingError of the door: the request, the queue, or too many answers kept */
async function sendLater(
  { access, asyncResults }: HttpContext,
  key: AccessKey | null,
  reply: FastifyReply,
  answer: (client: AbortController) => Promise<Answer>,
): Promise<FastifyReply> {
  // The response ends at once, the request when its answer is there.
  const onEnd = access.limits.goOn(key);
  let reservation: Reservation;
  try {
    reservation = asyncResults.reserve({ owner: key && idOf(key), onEnd });
  } catch (error) {
    onEnd();
    throw error;
  }
  try {
    await reservation.fill(await answer(reservation.client));
  } catch (error) {
    reservation.release();
    throw error;
  }
  return nextToken(reply, reservation.token).code(200).send();
}

/** @throws ServingError INVALID_TOKEN, BAD_REQUEST */
export function pollAnswer(
  { asyncResults }: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const { accessKey, headers } = request;
  const maxItems = integerHeader(headers, 'x-max-items', 1, MAX_ITEMS) ?? MAX_ITEMS;
  const polled = asyncResults.poll(
    String(headers['x-starting-token']),
    maxItems,
    accessKey && idOf(accessKey),
  );
  switch (polled.kind) {
    case 'pending':
      // HTTP/2 has no such words.
      if (!isHttp2(request.raw)) reply.raw.statusMessage = PENDING_REASON;
      return nextToken(reply, polled.nextToken).code(202).send();
    case 'failed': {
      const { status, body } = djlErrorWith(polled.error, FAILED_STATUS);
      return reply.code(status).type('application/json').send(body);
    }
    case 'items':
      if (polled.nextToken !== null) nextToken(reply, polled.nextToken);
      return reply.code(200).type(polled.contentType).send(polled.text);
  }
}

function nextToken(reply: FastifyReply, token: string): FastifyReply {
  return reply.headers({
    'x-next-token': token,
    'X-Amzn-SageMaker-Custom-Attributes': `x-next-token=${token}`,
  });
}
