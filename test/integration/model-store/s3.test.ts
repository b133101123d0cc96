/** server/model-store on S3, with the AWS SDK against a local server that speaks as much of S3's protocol as is used. */
import { readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadS3Sdk } from '../../../server/model-store/s3-source.js';
import { md5, tarBytes } from '../../support/model-store-bytes.js';
import {
  codeOf,
  failureOf,
  type LoopbackServer,
  openStore,
  type Store,
  serveBytes,
  startServer,
} from '../../support/model-store-fixture.js';

let objects: Record<string, Buffer>;
let server: LoopbackServer;
let store: Store;
let respond: ((request: IncomingMessage, response: ServerResponse) => boolean) | null;

const PAGE = 2;

/** ListObjectsV2 in pages of two, and GetObject. */
function s3(request: IncomingMessage, response: ServerResponse): void {
  if (respond?.(request, response)) return;
  const { pathname, searchParams } = new URL(request.url ?? '/', server.origin);
  const [, bucket, ...rest] = decodeURIComponent(pathname).split('/');
  const key = rest.join('/');
  if (bucket !== 'bucket') {
    response.writeHead(404, { 'content-type': 'application/xml' });
    response.end('<Error><Code>NoSuchBucket</Code></Error>');
  } else if (searchParams.has('list-type')) {
    const keys = Object.keys(objects).filter((name) => name.startsWith(searchParams.get('prefix') ?? ''));
    const from = Number(searchParams.get('continuation-token') ?? 0);
    const isTruncated = from + PAGE < keys.length;
    const contents = keys.slice(from, from + PAGE).map((name) => {
      const content = objects[name]!;
      return `<Contents><Key>${name}</Key><ETag>"${md5(content)}"</ETag><Size>${content.length}</Size></Contents>`;
    });
    const next = isTruncated ? `<NextContinuationToken>${from + PAGE}</NextContinuationToken>` : '';
    response.writeHead(200, { 'content-type': 'application/xml' });
    response.end(
      `<ListBucketResult><IsTruncated>${isTruncated}</IsTruncated>${next}${contents.join('')}</ListBucketResult>`,
    );
  } else {
    serveBytes(request, response, objects[key]!, `"${md5(objects[key]!)}"`);
  }
}

beforeEach(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'key');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  vi.stubEnv('AWS_REGION', 'eu-central-1');
  respond = null;
  objects = {
    'models/llama/': Buffer.alloc(0),
    'models/llama/config.json': Buffer.from('{}'),
    'models/llama/sub/extra.txt': Buffer.from('x'),
    'models/llama/model.safetensors': Buffer.alloc(50_000, 'w'),
    'models/llama-2/config.json': Buffer.from('{"other":1}'),
  };
  server = await startServer(s3);
  store = openStore({ s3Endpoint: server.origin });
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await server.close();
  store.remove();
});

describe('an S3 model', () => {
  it.each(['s3://bucket/models/llama/', 's3://bucket/models/llama'])(
    '%s becomes a folder of that prefix',
    async (url) => {
      const model = await store.fetch(url);
      expect(model).toMatchObject({ owned: true, suggestedName: 'llama' });
      const names = readdirSync(model.folder, { recursive: true, encoding: 'utf8' }).sort();
      expect(names).toEqual(['config.json', 'model.safetensors', 'sub', 'sub/extra.txt']);
      expect(server.requests[0]?.headers.authorization).toContain('/eu-central-1/s3/');
    },
  );

  it('a single archive, by its key or alone below the prefix, is unpacked', async () => {
    objects = {
      'a/model.tar': tarBytes([{ name: 'config.json', content: '{}' }]),
      'a/model.tar.md5': Buffer.from('x'),
    };
    const byKey = await store.fetch('s3://bucket/a/model.tar');
    expect(readdirSync(byKey.folder)).toEqual(['config.json']);
    delete objects['a/model.tar.md5'];
    expect(readdirSync((await store.fetch('s3://bucket/a/')).folder)).toEqual(['config.json']);
  });

  it('changed content is another folder', async () => {
    const first = await store.fetch('s3://bucket/models/llama/');
    objects['models/llama/config.json'] = Buffer.from('[]');
    expect((await store.fetch('s3://bucket/models/llama/')).folder).not.toBe(first.folder);
  });

  it('a damaged object is refused', async () => {
    respond = (request, response) => {
      const isIt = request.url?.includes('config.json') === true;
      if (isIt) serveBytes(request, response, Buffer.from('!!'), '"x"');
      return isIt;
    };
    const error = await failureOf(store.fetch('s3://bucket/models/llama/'));
    expect(error.message).toMatch(/config.json arrived damaged/);
    expect(store.left()).toEqual([]);
  });

  it.each(['models/evil/../../x', 'models/evil//x', 'models/evil/a\\b'])(
    'the key %s is refused',
    async (key) => {
      objects[key] = Buffer.from('x');
      expect(await codeOf(store.fetch('s3://bucket/models/evil/'))).toBe('CHECKPOINT_INVALID');
      expect(store.left()).toEqual([]);
    },
  );

  it('limits are those of the listing', async () => {
    store.policy.maxDownloadBytes = 1000;
    expect(await codeOf(store.fetch('s3://bucket/models/llama/'))).toBe('BAD_REQUEST');
    store.policy.maxDownloadBytes = 1 << 20;
    store.policy.maxEntries = 2;
    expect(await codeOf(store.fetch('s3://bucket/models/llama/'))).toBe('BAD_REQUEST');
  });

  it('an empty prefix, an unknown bucket and a denied one are MODEL_NOT_FOUND', async () => {
    expect(await codeOf(store.fetch('s3://bucket/nothing/'))).toBe('MODEL_NOT_FOUND');
    expect((await failureOf(store.fetch('s3://other/x/'))).message).toMatch(/404 \(NoSuchBucket\)/);
    respond = (_request, response) => {
      response
        .writeHead(403, { 'content-type': 'application/xml' })
        .end('<Error><Code>AccessDenied</Code></Error>');
      return true;
    };
    expect((await failureOf(store.fetch('s3://bucket/x/'))).message).toMatch(/403 \(AccessDenied\)/);
  });

  it('without the SDK the error says what to install', async () => {
    const error = await failureOf(loadS3Sdk(() => Promise.reject(new Error('ERR_MODULE_NOT_FOUND'))));
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    expect(error.message).toContain('npm install @aws-sdk/client-s3');
  });
});
