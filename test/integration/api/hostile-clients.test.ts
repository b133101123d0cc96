/** Clients that say next to nothing, or too much of nothing: others are answered, and what is held is bounded. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { aborted, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

const MIB = 1_048_576;
let test: TestServer;
const sockets: Socket[] = [];
beforeAll(async () => {
  test = await startServer({ maxRequestBytes: 16 * MIB, maxConnections: 500 });
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  await test.server.close();
});

async function open(begin = ''): Promise<Socket> {
  const socket = connect(Number(new URL(test.url).port), '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  if (begin !== '') socket.write(begin);
  sockets.push(socket);
  return socket;
}

/** All that comes until the other side closes. */
async function answerOf(socket: Socket): Promise<string> {
  let text = '';
  for await (const piece of socket) text += String(piece);
  return text;
}

/** What has come when `count` answers have begun and the last of them has ended. */
async function text(socket: Socket, count: number): Promise<string> {
  let all = '';
  for await (const piece of socket) {
    all += String(piece);
    if (all.split('HTTP/1.1 ').length > count && all.endsWith('}')) break;
  }
  return all;
}

const ask = async () => (await postJson(`${test.url}/v1/completions`, { prompt: 'a b' })).status;

describe('200 idle connections and 100 that send a head byte by byte', () => {
  it('keep nobody from an answer', async () => {
    await Promise.all(Array.from({ length: 200 }, () => open()));
    const slow = await Promise.all(
      Array.from({ length: 100 }, () => open('POST /v1/completions HTTP/1.1\r\nx-a: ')),
    );
    for (let round = 0; round < 5; round++) {
      for (const socket of slow) socket.write('a');
      expect(await ask()).toBe(200);
    }
    for (const socket of sockets.splice(0)) socket.destroy();
  });
});

describe('a request for two hosts', () => {
  it('is refused, whatever they are', async () => {
    for (const path of ['/ping', '/v1/models', '/nowhere']) {
      const socket = await open(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nHost: localhost\r\n\r\n`);
      expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 400 [\s\S]*names more than one host/);
    }
  });
});

describe('a path that nobody serves', () => {
  it('is refused by its head: nobody waits for its body', async () => {
    for (const [path, status] of [
      ['/nowhere', 404],
      ['/v1/completions/x', 404],
    ]) {
      const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n{`;
      expect(await answerOf(await open(head))).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    }
    const other = 'PATCH /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{';
    expect(await answerOf(await open(other))).toMatch(/^HTTP\/1\.1 405 /);
  });
});

describe('more requests than there may be connections', () => {
  it('on one connection are refused from there on, but for probes', async () => {
    const small = await startServer({ maxConnections: 2 });
    small.service.words = null;
    const body = JSON.stringify({ prompt: 'a' });
    const ask = `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const socket = connect(Number(new URL(small.url).port), '127.0.0.1');
    sockets.push(socket);
    socket.write(ask.repeat(3));
    const refused = await Promise.all([0, 1].map((index) => small.service.request(index)));
    for (const one of refused) one.finish('length');
    expect(await text(socket, 3)).toMatch(
      /200 OK[\s\S]*200 OK[\s\S]*429 Too Many Requests[\s\S]*More requests run than there may be connections: 2/,
    );
    await small.server.close();
  });
});

describe('a client that half-closes its connection', () => {
  it('has left: its request ends, and what it asked is given up', async () => {
    test.service.words = null;
    const count = test.service.submitted.length;
    const body = JSON.stringify({ prompt: 'a', stream: true });
    const socket = await open(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const { signal } = await test.service.request(count);
    const left = aborted(signal);
    socket.end();
    await left;
    test.service.words = 3;
    expect(await ask()).toBe(200);
  });
});

describe('a body in 200,000 pieces of a byte', () => {
  it('is answered, and a head that is too long is refused', async () => {
    const socket = await open(
      'POST /predictions/mlp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
    );
    const answer = answerOf(socket);
    const body = `{"inputs": "a b", "x": "${'y'.repeat(200_000)}"}`;
    for (let at = 0; at < body.length; at += 10_000) {
      const pieces = [...body.slice(at, at + 10_000)].map((one) => `1\r\n${one}\r\n`).join('');
      if (!socket.write(pieces)) await once(socket, 'drain');
    }
    socket.write('0\r\n\r\n');
    expect(await answer).toMatch(/^HTTP\/1\.1 200 /);

    const head = await open(`GET /ping HTTP/1.1\r\nhost: localhost\r\nx-a: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(await answerOf(head)).toMatch(/^HTTP\/1\.1 431 /);
    expect(await ask()).toBe(200);
  });
});

describe.each(['/v1/completions', '/predictions/mlp', '/v1/messages'])('%s', (path) => {
  it.each([
    ['empty objects in a field that nobody reads', '{},'],
    ['empty lists', '[],'],
    ['members', '{"a":1},'],
  ])('refuses millions of %s before they are parsed', async (_what, part) => {
    const count = part.length > 3 ? 1_050_000 : 2_100_000;
    const body = `{"model": "mlp", "prompt": "a", "x": [${part.repeat(count)}0]}`;
    const { status, text } = await postJson(test.url + path, body);
    expect(status).toBeLessThan(500);
    expect(status).toBeGreaterThan(399);
    expect(text).toMatch(/made of \d+ objects, arrays and members, the limit is 2097152/);
  });
});
