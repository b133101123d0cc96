/** Answers of gRPC that nobody takes: no more are held at a time than there may be, and what was taken counts no more. */
import { once } from 'node:events';
import { type ClientHttp2Stream, connect, constants, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { UnreadMessages } from '../../../../server/grpc/unread-messages.js';

/** More than a window of HTTP/2 is. */
const ANSWER = Buffer.alloc(1_048_576, 'a');
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** @returns a call's two ends; its answer is begun, and read by nobody yet */
async function answered(unread: UnreadMessages): Promise<[ServerHttp2Stream, ClientHttp2Stream]> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  ends.push(() => {
    session.destroy();
    server.close();
  });
  const theirs = session.request({ ':path': '/' });
  theirs.on('error', () => {});
  const [ours] = (await once(server, 'stream')) as [ServerHttp2Stream];
  ours.respond();
  ours.write(ANSWER);
  unread.begin(ours);
  return [ours, theirs];
}

it('one that nobody takes is given up after the limit', async () => {
  const [ours, theirs] = await answered(new UnreadMessages(ANSWER.length, 30));
  await Promise.all([once(ours, 'close'), once(theirs, 'close')]);
  expect(theirs.rstCode).toBe(constants.NGHTTP2_CANCEL);
});

it('no more wait at a time than may, but for one', async () => {
  const unread = new UnreadMessages(ANSWER.length, 60_000);
  const [ours, theirs] = await answered(unread);
  const [, more] = await answered(unread);
  await new Promise((resolve) => more.once('close', resolve));
  expect(more.rstCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  expect(ours.closed).toBe(false);
  // Its reader takes it after all.
  ours.end();
  theirs.resume();
  await once(ours, 'close');
  const [third] = await answered(unread);
  expect(third.closed).toBe(false);
});
