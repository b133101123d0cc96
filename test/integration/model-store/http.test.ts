/** server/model-store over http: who may be asked, and what happens when the other side lies, stops or changes its mind. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { downloadFile } from '../../../server/model-store/download-file.js';
import { releaseModel } from '../../../server/model-store/fetch-model.js';
import { tarBytes } from '../../support/model-store-bytes.js';
import {
  codeOf,
  failureOf,
  type LoopbackServer,
  openStore,
  type Store,
  serveBytes,
  startServer,
} from '../../support/model-store-fixture.js';

/** Does not shrink, so that its length on the wire is known: 200 kB. */
const weights = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 0xff));
const archive = gzipSync(
  tarBytes([
    { name: 'config.json', content: '{}' },
    { name: 'weights.bin', content: weights },
  ]),
  { level: 0 },
);
const ETAG = '"one"';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let server: LoopbackServer;
let answer: Answer;
let store: Store;
beforeEach(async () => {
  answer = (request, response) => serveBytes(request, response, archive, ETAG);
  server = await startServer((request, response) => answer(request, response));
  store = openStore({ allowedHosts: [server.host] });
});
afterEach(async () => {
  await server.close();
  store.remove();
});

const url = (name = 'm.tar.gz') => `${server.origin}/${name}`;

/** Sends so many bytes of the archive from `start`, then cuts the connection. */
const cutAfter =
  (bytes: number): Answer =>
  (request, response) => {
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const length = { 'content-length': archive.length - start, etag: ETAG };
    if (start > 0) {
      const range = `bytes ${start}-${archive.length - 1}/${archive.length}`;
      response.writeHead(206, { ...length, 'content-range': range });
    } else {
      response.writeHead(200, length);
    }
    response.write(archive.subarray(start, start + bytes), () => response.destroy());
  };

describe('a download', () => {
  it('becomes an owned folder that stays; the same content is not downloaded twice', async () => {
    const stages = new Set<string>();
    const model = await store.fetch(url(), { onProgress: ({ stage }) => stages.add(stage) });
    expect(model).toMatchObject({ owned: true, suggestedName: 'm' });
    expect(readdirSync(model.folder).sort()).toEqual(['config.json', 'weights.bin']);
    expect([...stages]).toEqual(['download', 'unpack']);
    const again = await store.fetch(url(), { onProgress: () => expect.unreachable('nothing to do') });
    expect(again.folder).toBe(model.folder);
    await releaseModel(model);
    expect(existsSync(model.folder)).toBe(true);
    await releaseModel(again);
    expect(existsSync(model.folder)).toBe(true);
  });

  it('of the same content by several at once happens once', async () => {
    const models = await Promise.all([store.fetch(url()), store.fetch(url()), store.fetch(url())]);
    expect(new Set(models.map(({ folder }) => folder)).size).toBe(1);
    expect(store.left().filter((name) => !name.includes('/'))).toHaveLength(1);
  });

  it('of changed content is another folder', async () => {
    const first = await store.fetch(url());
    answer = (request, response) => serveBytes(request, response, archive, '"two"');
    expect((await store.fetch(url())).folder).not.toBe(first.folder);
  });

  it('of content that the server does not name is never taken from before', async () => {
    answer = (_request, response) => void response.end(archive);
    const first = await store.fetch(url());
    expect((await store.fetch(url())).folder).not.toBe(first.folder);
  });
});

describe('hosts', () => {
  it('http is off until a host is allowed', async () => {
    store.policy.allowedHosts = [];
    expect((await failureOf(store.fetch(url()))).message).toMatch(/list of allowed hosts is empty/);
    expect(server.requests).toHaveLength(0);
  });

  it('a host that is not allowed is not asked', async () => {
    store.policy.allowedHosts = ['models.example'];
    const error = await failureOf(store.fetch(url()));
    expect(error).toMatchObject({ code: 'BAD_REQUEST' });
    expect(error.message).toContain(`The host ${server.host} is not on the list`);
    expect(server.requests).toHaveLength(0);
  });

  it.each(['*', '*.localhost'])('%s allows no private address', async (pattern) => {
    store.policy.allowedHosts = [pattern];
    const port = server.host.split(':')[1];
    const places =
      pattern === '*'
        ? [`127.0.0.1:${port}`, `[::1]:${port}`, `2130706433:${port}`, `localhost:${port}`]
        : [`a.localhost:${port}`];
    for (const place of places) {
      const error = await failureOf(store.fetch(`http://${place}/m.tar`));
      // A resolver may not know the names below localhost at all.
      if (place !== `a.localhost:${port}` || error.code === 'BAD_REQUEST')
        expect(error.message).toMatch(/private address/);
    }
    expect(server.requests).toHaveLength(0);
  });

  it('a redirect to a host that is not allowed is refused before it is asked', async () => {
    const other = await startServer((_request, response) => void response.end(archive));
    answer = (_request, response) =>
      void response.writeHead(302, { location: `${other.origin}/m.tar.gz` }).end();
    const error = await failureOf(store.fetch(url()));
    expect(error.message).toContain(`The host ${other.host} is not on the list`);
    expect(other.requests).toHaveLength(0);
    expect(store.left()).toEqual([]);
    await other.close();
  });

  it('a redirect to an allowed host is followed, without the password of the first', async () => {
    const other = await startServer((request, response) => serveBytes(request, response, archive, ETAG));
    store.policy.allowedHosts = [server.host, other.host];
    answer = (_request, response) =>
      void response.writeHead(307, { location: `${other.origin}/m.tar.gz` }).end();
    await store.fetch(`http://user:secret@${server.host}/m.tar.gz`);
    expect(server.requests[0]?.headers.authorization).toMatch(/^Basic /);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
    await other.close();
  });

  it('redirects end, and lead to http and https only', async () => {
    answer = (_request, response) => void response.writeHead(302, { location: '/again' }).end();
    expect((await failureOf(store.fetch(url()))).message).toMatch(/redirects more than 5 times/);
    answer = (_request, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end();
    expect((await failureOf(store.fetch(url()))).message).toMatch(/file: is no scheme/);
  });
});

describe('a server that fails or lies', () => {
  it('404 and 403 are MODEL_NOT_FOUND; the message has no secrets', async () => {
    answer = (_request, response) => void response.writeHead(403).end();
    const error = await failureOf(store.fetch(`http://user:secret@${server.host}/m.tar?token=hidden`));
    expect(error.code).toBe('MODEL_NOT_FOUND');
    expect(error.message).toBe(`${server.origin}/m.tar: the server answers 403`);
  });

  it('nobody there is MODEL_NOT_FOUND', async () => {
    const gone = await startServer(() => undefined);
    await gone.close();
    store.policy.allowedHosts = [gone.host];
    expect((await failureOf(store.fetch(`${gone.origin}/m.tar`))).message).toMatch(/ECONNREFUSED/);
  });

  it('a broken connection is continued where it broke', async () => {
    answer = cutAfter(120_000);
    const { folder } = await store.fetch(url());
    expect(readFileSync(path.join(folder, 'weights.bin')).equals(weights)).toBe(true);
    const [first, ...rest] = server.requests.map(({ headers }) => headers.range);
    expect(first).toBeUndefined();
    // What was under way when the connection broke may be lost, so the place is not exact.
    expect(rest.length).toBeGreaterThan(0);
    for (const range of rest) expect(range).toMatch(/^bytes=[1-9]\d+-$/);
    expect(server.requests[1]?.headers['if-range']).toBe(ETAG);
  });

  it('a connection that always breaks leaves a partial that the next fetch continues', async () => {
    answer = cutAfter(10_000);
    const error = await failureOf(store.fetch(url()));
    expect(error.code).toBe('MODEL_NOT_FOUND');
    expect(error.message).toMatch(/in 4 attempts: (?:it ended after|the connection broke)/);
    const [partial, ...others] = store.left().filter((name) => !name.includes('/'));
    expect(partial).toMatch(/^\.partial-/);
    expect(others).toEqual([]);
    const { size } = statSync(path.join(store.downloadFolder, partial!, 'files', 'download.tar.part'));
    expect(size).toBeGreaterThan(0);
    server.requests.length = 0;
    answer = (request, response) => serveBytes(request, response, archive, ETAG);
    await store.fetch(url());
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([undefined, `bytes=${size}-`]);
    expect(store.left().filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('a stream that ends early without an error is not taken for the whole', async () => {
    const starts: number[] = [];
    const bytes = await downloadFile({
      display: 'm',
      target: path.join(store.scratch, 'm'),
      maxBytes: 100,
      expectedBytes: null,
      open: async (offset) => {
        starts.push(offset);
        return { stream: Readable.from([Buffer.alloc(6)]), start: offset, totalBytes: 12 };
      },
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    expect(bytes).toBe(12);
    expect(starts).toEqual([0, 6]);
  });

  it('a server that cannot continue starts again', async () => {
    let asked = 0;
    answer = (request, response) => {
      asked += 1;
      if (asked === 1) return cutAfter(80_000)(request, response);
      return void response.writeHead(200, { etag: ETAG, 'content-length': archive.length }).end(archive);
    };
    expect(existsSync(path.join((await store.fetch(url())).folder, 'weights.bin'))).toBe(true);
  });

  it('content that changes on the way is refused', async () => {
    let asked = 0;
    answer = (request, response) => {
      asked += 1;
      if (asked === 1) return cutAfter(80_000)(request, response);
      return serveBytes(request, response, archive, '"two"');
    };
    const error = await failureOf(store.fetch(url()));
    expect(error).toMatchObject({ code: 'CHECKPOINT_INVALID' });
    expect(error.message).toMatch(/changed while/);
    expect(store.left()).toEqual([]);
  });

  it('more bytes than the limit are refused, announced or not', async () => {
    store.policy.maxDownloadBytes = 100_000;
    expect((await failureOf(store.fetch(url()))).message).toMatch(/at most 100000 may be downloaded/);
    expect(existsSync(store.downloadFolder)).toBe(false);
    answer = (_request, response) => {
      response.write(archive.subarray(0, 1000));
      response.end(archive);
    };
    const error = await failureOf(store.fetch(url()));
    expect(error).toMatchObject({ code: 'BAD_REQUEST' });
    expect(error.message).toMatch(/at most 100000 may be downloaded/);
    expect(store.left()).toEqual([]);
  });

  it('a length smaller than the content cuts the archive, which is damaged then', async () => {
    answer = (_request, response) =>
      void response.writeHead(200, { 'content-length': 5000, etag: ETAG }).end(archive.subarray(0, 5000));
    expect(await codeOf(store.fetch(url()))).toBe('CHECKPOINT_INVALID');
    expect(store.left()).toEqual([]);
  });

  it('what is no archive is refused at its first bytes', async () => {
    answer = (_request, response) => {
      response.writeHead(200, { 'content-length': 50_000_000, etag: ETAG });
      response.write(Buffer.alloc(1000, '<html>'));
    };
    expect((await failureOf(store.fetch(url()))).message).toMatch(/no tar, tar.gz or zip/);
    expect(store.left()).toEqual([]);
  });

  it('giving up in the middle leaves nothing', async () => {
    answer = (_request, response) => {
      response.writeHead(200, { 'content-length': archive.length, etag: ETAG });
      response.write(archive.subarray(0, 50_000));
    };
    const controller = new AbortController();
    const options = { signal: controller.signal, onProgress: () => controller.abort() };
    expect(await codeOf(store.fetch(url(), options))).toBe('CANCELLED');
    expect(store.left()).toEqual([]);
  });

  it('giving up before the first byte leaves nothing', async () => {
    const controller = new AbortController();
    answer = () => controller.abort();
    expect(await codeOf(store.fetch(url(), { signal: controller.signal }))).toBe('CANCELLED');
    expect(store.left()).toEqual([]);
  });
});
