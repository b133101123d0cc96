/** Connections of HTTP/2: those that ask nothing end, those that wait for an answer do not. */
import { once } from 'node:events';
import { connect, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { endIdleSessions, refuseTwoHosts } from '../../../../server/http/http2-requests.js';

const IDLE_MS = 30;
const server = createServer();
afterEach(() => server.close());

it('an idle one is closed, before and after its requests, and one with a request is not', async () => {
  endIdleSessions(server, IDLE_MS);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const open = () => connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const busy = open();
  const answer = busy.request({ ':path': '/' });
  const [stream] = (await once(server, 'stream')) as [ServerHttp2Stream];
  const idle = open();
  await once(idle, 'close');
  expect(busy.closed).toBe(false);
  stream.respond({ ':status': 200 });
  stream.end('there');
  let text = '';
  for await (const piece of answer) text += String(piece);
  expect(text).toBe('there');
  await once(busy, 'close');
});

it.each([
  [['Host', 'a', 'x', 'y'], { host: 'a' }, false],
  [['Host', 'a', 'HOST', 'a'], { host: 'a' }, true],
  [[':authority', 'a'], { ':authority': 'a', host: 'a' }, false],
  [[':authority', 'a', 'host', 'a'], { ':authority': 'a', host: 'a' }, false],
  [[':authority', 'a', 'host', 'b'], { ':authority': 'a', host: 'b' }, true],
])('%j with %j: two hosts are %s', (rawHeaders, headers, isRefused) => {
  const check = () => refuseTwoHosts({ headers, rawHeaders } as Parameters<typeof refuseTwoHosts>[0]);
  if (isRefused) expect(check).toThrow('The request names more than one host');
  else check();
});
