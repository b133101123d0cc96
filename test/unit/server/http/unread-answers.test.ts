/** Answers that nobody reads: their readers are dropped, by HTTP/1 and HTTP/2, and what is held of them is bounded. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect, type Server } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { UnreadAnswers } from '../../../../server/http/answers/unread-answers.js';

const MIB = 1_048_576;
/** More than sockets hold by themselves. */
const ANSWER = Buffer.alloc(32 * MIB, 'a');
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** @returns the responses that it has begun, by the way that asks for one and reads nothing */
async function begin(isHttp2: boolean, unread: UnreadAnswers, dropped: () => void, answer = ANSWER) {
  const answered = (response: ServerResponse): void => {
    unread.begin(response, answer.length, dropped);
    response.end(answer);
  };
  const server = isHttp2
    ? createHttp2((_request, response) => answered(response as unknown as ServerResponse))
    : createServer((_request, response) => answered(response));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  ends.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const asked = once(server as Server, 'request');
  if (isHttp2) {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const stream = session.request({ ':path': '/' });
    stream.on('error', () => {});
    ends.push(() => session.destroy());
  } else {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    ends.push(() => socket.destroy());
  }
  const [, response] = (await asked) as [unknown, ServerResponse];
  return response;
}

it.each([
  ['HTTP/1', false],
  ['HTTP/2', true],
])('one by %s is given up after the limit', async (_name, isHttp2) => {
  const unread = new UnreadAnswers(1, 30);
  let dropped = 0;
  const response = await begin(isHttp2, unread, () => {
    dropped += 1;
  });
  await once(response, 'close');
  expect(dropped).toBe(1);
});

it('no more are held at a time than there may be, but for one; what the kernel takes counts for nothing', async () => {
  const unread = new UnreadAnswers(ANSWER.length, 60_000);
  const first = await begin(false, unread, () => {});
  const other = { req: { httpVersionMajor: 1 } } as unknown as ServerResponse;
  const more = () => unread.begin(other, 20_000, () => {});
  expect(more).toThrow(/^33554432 bytes of answers wait for their readers, and at most 33554432 may$/);
  unread.begin(other, 10_000, () => {});
  // What says so must get out, by HTTP/2 too.
  await begin(true, unread, () => {}, Buffer.alloc(10_000));
  first.destroy();
  await once(first, 'close');
  await begin(false, unread, () => {});
});

it.each([
  ['another is being made for it', 2, 0],
  ['it has asked nothing more', 1, 5000],
])('a reader that has taken its answer is not given up for it: %s', async (_what, asked, timeoutMs) => {
  const unread = new UnreadAnswers(MIB, 60_000);
  const responses: ServerResponse[] = [];
  const server = createServer((_request, response) => responses.push(response));
  server.keepAliveTimeout = 5000;
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').resume();
  ends.push(() => {
    socket.destroy();
    server.close();
  });
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(asked));
  while (responses.length < asked) await once(server, 'request');
  const [first] = responses;
  const { socket: theirs } = first!.req;
  unread.begin(first!, 20_000, () => {});
  expect(theirs.timeout).toBe(60_000);
  first!.end(Buffer.alloc(20_000));
  await once(first!, 'close');
  // Node may add something.
  expect(Math.min(5000, theirs.timeout!)).toBe(timeoutMs);
});
