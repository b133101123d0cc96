/**
 * A server whose service time is known: one request at a time, first come first served, each after so many milliseconds.
 *
 * Run     by known-service.ts, as a process of its own: node one-at-a-time.js MS
 * Out     its port, a line on standard output
 * Limits  ends when its standard input does. The last 1.5 ms of a service are spent in turns of the event loop: to be as exact as
 *         a clock, it takes processor time that a real server's worker would
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SystemClock } from '../../tuner/load/clock.js';

const serviceMs = Number(process.argv[2]);
const clock = new SystemClock();
let freeMs = 0;
/** The one before has been answered: two waits for the clock at once would share its turns. */
let before: Promise<void> = Promise.resolve();

const server = createServer((request, response) => {
  const doneMs = Math.max(clock.nowMs(), freeMs) + serviceMs;
  freeMs = doneMs;
  request.resume();
  before = before.then(() => clock.until(doneMs)).then(() => void response.end('{}'));
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
process.stdin.resume().once('end', () => process.exit(0));
