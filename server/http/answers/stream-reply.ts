/**
 * From the socket to the slot and back: one AbortSignal for a client that goes away, and a body written as it is made.
 *
 * In      frames of text, each of which becomes one HTTP chunk as soon as it exists
 * Out     the response. Its head leaves HEAD_DELAY_MS after the frames began at the latest: a proxy or a client that waits for one does
 *         not give up on a long prompt. A stream of events tells every PING_INTERVAL_MS without a frame that it lives
 * Limits  a reader that takes nothing for `stallLimitMs` is dropped, and one that takes next to nothing (read-pace.ts)
 * Errors  before the head: thrown on to the dialect's error handler, so that they have a status; after it: the dialect's own error frames
 */
import type { ServerResponse } from 'node:http';
import type { FastifyBaseLogger, FastifyReply } from 'fastify';
import { ServingError } from '../../../proto/errors.js';
import { clientController } from '../../requests/client-controller.js';
import { isComplete, isGone, needsDrain } from '../http2-requests.js';
import { ReadPace } from './read-pace.js';
import { timesOf } from './reply-times.js';

/** Long enough for a request that fails at once to have its own status. */
const HEAD_DELAY_MS = 50;
/** Proxies cut what is silent for a minute, as a rule. */
const PING_INTERVAL_MS = 15_000;
const EVENT_STREAM = 'text/event-stream';
/** A comment of server-sent events: no client sees it. JSON lines have none. */
const PING = ': ping\n\n';

/** The frames of a stream, and what its dialect says where they break after the head. */
export interface Frames<T extends string | Uint8Array = string> {
  /** Left early (its `return` is called) when the client is gone. */
  readonly texts: AsyncGenerator<T>;
  /** What is still written. Called at most once: it also tells the log and ends the jobs. null: there are no words, the answer is cut. */
  readonly broken: ((thrown: unknown) => readonly string[]) | null;
}

/** Aborted when the connection ends before the response does. */
export function clientSignal(reply: FastifyReply): AbortController {
  const controller = clientController();
  timesOf(reply).follow(controller.signal);
  reply.raw.once('close', () => {
    if (!isComplete(reply.raw)) controller.abort();
  });
  return controller;
}

/** Writes frames as they come. @throws what they broke with before the head was sent */
export async function sendFrames(
  reply: FastifyReply,
  contentType: string,
  { texts, broken }: Frames<string | Uint8Array>,
  stallLimitMs: number,
): Promise<FastifyReply> {
  const first = texts.next();
  await settledOrLater(first, HEAD_DELAY_MS);
  tellTimes(reply);
  reply.hijack();
  const { raw } = reply;
  // nginx passes a stream on as it comes only where it is told so.
  const head = { ...reply.getHeaders(), 'content-type': contentType, 'x-accel-buffering': 'no' };
  raw.writeHead(reply.statusCode, head as Record<string, string>);
  raw.flushHeaders();
  // A handler's pieces may be cut anywhere: nothing is put between them.
  const isEvents = broken !== null && contentType.startsWith(EVENT_STREAM);
  const pings = isEvents ? setInterval(() => ping(raw), PING_INTERVAL_MS) : undefined;
  const pace = new ReadPace(stallLimitMs);
  try {
    for (let frame = await first; !frame.done && !isGone(raw); frame = await texts.next()) {
      pings?.refresh();
      pace.given(frame.value.length);
      if (raw.write(frame.value)) continue;
      const sinceMs = performance.now();
      const isStalled = (await drained(raw, stallLimitMs)) === 'stalled';
      pace.waited(performance.now() - sinceMs);
      if (!isStalled && !pace.isTooSlow) continue;
      reply.log.warn({ stallLimitMs }, `dropped a reader that takes ${isStalled ? '' : 'next to '}nothing`);
      raw.destroy();
    }
  } catch (thrown) {
    const words = broken?.(thrown) ?? [];
    if (broken === null && !isGone(raw)) {
      reply.log.error({ err: thrown }, 'a stream broke');
      raw.destroy();
    }
    for (const text of words) if (!isGone(raw)) raw.write(text);
  } finally {
    clearInterval(pings);
    if (!isGone(raw)) raw.end();
    await texts.return(undefined);
  }
  return reply;
}

/** Before the head leaves. */
export function tellTimes(reply: FastifyReply): void {
  const timing = timesOf(reply).header();
  if (timing !== null) reply.header('server-timing', timing);
}

/** A reader that takes nothing needs no ping. */
function ping(raw: ServerResponse): void {
  if (!isGone(raw) && !needsDrain(raw)) raw.write(PING);
}

/** Waits for a promise, but not for long. @throws what it is rejected with until then */
async function settledOrLater(promise: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const later = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  try {
    await Promise.race([promise, later]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Frames, and before them some that say nothing of the answer: these wait for the first of the others as long as the head does, so that an
 * error that is known by then has its own status.
 */
export async function* withOpening(
  opening: readonly string[],
  frames: AsyncGenerator<string>,
): AsyncGenerator<string> {
  const first = frames.next();
  try {
    await settledOrLater(first, HEAD_DELAY_MS);
    yield* opening;
    for (let frame = await first; !frame.done; frame = await frames.next()) yield frame.value;
  } finally {
    await frames.return(undefined);
  }
}

/** Frames, and what the dialect says of an error that comes after the head. */
export function withErrorFrames(
  texts: AsyncGenerator<string>,
  errorFrames: (error: ServingError) => readonly string[],
  onError: (error: ServingError) => void,
): Frames {
  return {
    texts,
    broken: (thrown) => {
      const error = ServingError.from(thrown);
      onError(error);
      return errorFrames(error);
    },
  };
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
    if (isGone(raw)) done('closed');
  });
}
