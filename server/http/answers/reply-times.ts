/** The times of the request that a reply answers; they begin with the request's head, which asks for them first. */
import type { FastifyReply } from 'fastify';
import { RequestTimes } from '../../requests/request-times.js';

const timesByReply = new WeakMap<FastifyReply, RequestTimes>();

export function timesOf(reply: FastifyReply): RequestTimes {
  let times = timesByReply.get(reply);
  if (times === undefined) {
    times = new RequestTimes();
    timesByReply.set(reply, times);
  }
  return times;
}
