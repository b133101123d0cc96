/**
 * An answer before it is known how it reaches its client: sent at once, streamed, or kept until it is asked for.
 *
 * In      made by a dialect's handler once every job of the request is accepted
 * Out     sendAnswer: the response. async-results.ts keeps it instead
 */
import type { FastifyReply } from 'fastify';
import { sendFrames } from './stream-reply.js';

export type Answer =
  /** One JSON value, when all of it is there. */
  | { kind: 'value'; make: () => Promise<unknown> }
  /** Frames of text as they come; errors after the first are among them. */
  | { kind: 'stream'; contentType: string; frames: AsyncGenerator<string> };

/** @param stallLimitMs a reader that takes nothing for so long is dropped */
export async function sendAnswer(
  reply: FastifyReply,
  answer: Answer,
  stallLimitMs: number,
): Promise<FastifyReply> {
  if (answer.kind === 'value') return reply.send(await answer.make());
  return sendFrames(reply, answer.contentType, answer.frames, stallLimitMs);
}
