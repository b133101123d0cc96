/**
 * An answer before it is known how it reaches its client: sent at once, streamed, or kept until it is asked for.
 *
 * In      made by a dialect's handler once every job of the request is accepted
 * Out     sendAnswer: the response. async-results.ts keeps it instead
 */
import type { FastifyReply } from 'fastify';
import type { ContentHead } from '../../requests/invoke-request.js';
import { type Frames, sendFrames } from './stream-reply.js';

export type Answer =
  /** One JSON value, when all of it is there. */
  | { kind: 'value'; make: () => Promise<unknown> }
  /** Frames of text as they come. */
  | { kind: 'stream'; contentType: string; frames: Frames }
  /** Bytes of a kind of their own, with the head that a handler gave them. */
  | { kind: 'content'; make: () => Promise<Content> };

export interface Content extends ContentHead {
  chunks: AsyncGenerator<Uint8Array>;
}

/** @param stallLimitMs a reader that takes nothing for so long is dropped */
export async function sendAnswer(
  reply: FastifyReply,
  answer: Answer,
  stallLimitMs: number,
): Promise<FastifyReply> {
  if (answer.kind === 'value') return reply.send(await answer.make());
  if (answer.kind === 'content') {
    const { chunks, contentType, headers, isStream, status } = await answer.make();
    reply.headers(headers).code(status);
    if (isStream) return sendFrames(reply, contentType, { texts: chunks, broken: null }, stallLimitMs);
    return reply.type(contentType).send(await allOf(chunks));
  }
  return sendFrames(reply, answer.contentType, answer.frames, stallLimitMs);
}

/** The whole of an answer that is not streamed. */
export async function allOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const chunk of chunks) pieces.push(chunk);
  return Buffer.concat(pieces);
}
