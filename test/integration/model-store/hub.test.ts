/** server/model-store on the hub, with the hub's own client against a local server that speaks the hub's protocol. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hubGuard } from '../../../server/model-store/hub-source.js';
import { gitBlobId, sha256 } from '../../support/model-store-bytes.js';
import {
  codeOf,
  failureOf,
  type LoopbackServer,
  openStore,
  type Store,
  serveBytes,
  startServer,
} from '../../support/model-store-fixture.js';

const COMMIT = 'c0ffee'.padEnd(40, '0');
const LARGE = Buffer.alloc(100_000, 'weights ');

/** Path in the repository → content; those of LFS as the hub tells them. */
let files: Record<string, Buffer>;
let server: LoopbackServer;
let store: Store;
let respond: ((request: IncomingMessage, response: ServerResponse) => boolean) | null;

const isLfs = (name: string): boolean => /\.(?:safetensors|gguf)$/.test(name);

function treeEntry(name: string, content: Buffer) {
  const base = { type: 'file', path: name, size: content.length, oid: gitBlobId(content) };
  const lfs = { oid: sha256(content), size: content.length, pointerSize: 130 };
  return isLfs(name) ? { ...base, oid: 'f'.repeat(40), lfs } : base;
}

function hub(request: IncomingMessage, response: ServerResponse): void {
  if (respond?.(request, response)) return;
  const { pathname } = new URL(request.url ?? '/', server.origin);
  const sendJson = (status: number, body: unknown): void =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  const name = pathname.split(`/org/name/resolve/${COMMIT}/`)[1];
  const content = name === undefined ? undefined : files[name];
  if (/^\/api\/models\/org\/name\/revision\/(main|v1)$/.test(pathname)) {
    sendJson(200, { _id: '1', id: 'org/name', sha: COMMIT, gated: false });
  } else if (pathname === `/api/models/org/name/tree/${COMMIT}`) {
    const folder = { type: 'directory', path: 'onnx', size: 0, oid: '0'.repeat(40) };
    sendJson(200, [...Object.entries(files).map(([file, bytes]) => treeEntry(file, bytes)), folder]);
  } else if (content === undefined) {
    sendJson(404, { error: 'Repository not found' });
  } else {
    serveBytes(request, response, content, `"${gitBlobId(content)}"`);
  }
}

beforeEach(async () => {
  respond = null;
  files = {
    'config.json': Buffer.from('{}'),
    'tokenizer.json': Buffer.from('{"a":1}'),
    'tokenizer.model': Buffer.from('spm'),
    'chat_template.jinja': Buffer.from('{{ x }}'),
    'model.safetensors': LARGE,
  };
  server = await startServer(hub);
  store = openStore({ hubEndpoint: server.origin });
});
afterEach(async () => {
  await server.close();
  store.remove();
});

const fetched = (name: string): boolean => server.requests.some(({ url }) => url?.endsWith(`/${name}`));

describe('a hub model', () => {
  it('becomes a folder of the files a checkpoint needs, named by its commit', async () => {
    Object.assign(files, {
      'README.md': Buffer.from('#'),
      'pytorch_model.bin': Buffer.from('pickle'),
      'modeling_evil.py': Buffer.from('import os'),
      '../escape.json': Buffer.from('{}'),
      'onnx/model.json': Buffer.from('{}'),
      'consolidated.safetensors': LARGE,
    });
    const model = await store.fetch('hf://org/name');
    expect(model).toMatchObject({ owned: true, suggestedName: 'org_name' });
    expect(readdirSync(model.folder).sort()).toEqual([
      'chat_template.jinja',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer.model',
    ]);
    expect(fetched('consolidated.safetensors')).toBe(false);
    server.requests.length = 0;
    expect((await store.fetch('org/name@v1')).folder).toBe(model.folder);
    expect(fetched('model.safetensors')).toBe(false);
  });

  it('in GGUF is the only file, or the one whose name ends as is asked', async () => {
    const ggufs = ['m-Q4_K_M.gguf', 'm-Q8_0.gguf', 'm-IQ8_0.gguf', 'mmproj-m.gguf'];
    files = Object.fromEntries(ggufs.map((name) => [name, Buffer.from(name)]));
    const { folder, suggestedName } = await store.fetch('hf://org/name:q8_0');
    expect(suggestedName).toBe('org_name_q8_0');
    expect(readdirSync(folder).filter((name) => !name.startsWith('.'))).toEqual(['m-Q8_0.gguf']);
    const failure = await failureOf(store.fetch('hf://org/name'));
    expect(failure.message).toMatch(/has 3 GGUF files.*m-Q4_K_M\.gguf.*as in org\/name:Q4_K_M/);
    expect(await codeOf(store.fetch('hf://org/name:Q2_K'))).toBe('MODEL_NOT_FOUND');
    files = { 'm-Q4_K_M.gguf': LARGE, 'config.json': Buffer.from('{}') };
    const only = await store.fetch('hf://org/name');
    expect(readdirSync(only.folder).sort()).toEqual(expect.arrayContaining(['config.json', 'm-Q4_K_M.gguf']));
  });

  it('in parts comes with all of them', async () => {
    const part = (number: number) => `m-Q8_0-0000${number}-of-00002.gguf`;
    const names = [part(1), part(2), 'm-Q4_0-00001-of-00001.gguf', 'm-Q4_K_M.gguf'];
    files = Object.fromEntries(names.map((name) => [name, Buffer.from(name)]));
    const { folder } = await store.fetch('hf://org/name:Q8_0');
    const kept = readdirSync(folder).filter((name) => !name.startsWith('.'));
    expect(kept.sort()).toEqual([part(1), part(2)]);
    const failure = await failureOf(store.fetch('hf://org/name'));
    expect(failure.message).toContain('has 3 GGUF files');
  });

  it('beside safetensors GGUF is left out', async () => {
    files['m-Q4_K_M.gguf'] = LARGE;
    const { folder } = await store.fetch('hf://org/name');
    expect(existsSync(path.join(folder, 'm-Q4_K_M.gguf'))).toBe(false);
  });

  it('of sentence-transformers comes with its modules', async () => {
    Object.assign(files, {
      'modules.json': Buffer.from('[]'),
      '1_Pooling/config.json': Buffer.from('{"p":1}'),
      '2_Dense/model.safetensors': Buffer.from('dense'),
      '2_Dense/pytorch_model.bin': Buffer.from('pickle'),
      '../1_Pooling/config.json': Buffer.from('{}'),
    });
    const { folder } = await store.fetch('hf://org/name');
    expect(readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()).toEqual(
      [
        ...['1_Pooling', '1_Pooling/config.json', '2_Dense', '2_Dense/model.safetensors'],
        ...['chat_template.jinja', 'config.json', 'model.safetensors', 'modules.json'],
        ...['tokenizer.json', 'tokenizer.model'],
      ].sort(),
    );
    expect(server.requests.some(({ url }) => url?.includes('/tree/') && url.includes('recursive=true'))).toBe(
      true,
    );
  });

  it('a folder of the model store wins over a hub id', async () => {
    await expect(store.fetch('org/name')).resolves.toMatchObject({ owned: true });
    const asked = server.requests.length;
    mkdirSync(path.join(store.policy.modelStore, 'org/name'), { recursive: true });
    writeFileSync(path.join(store.policy.modelStore, 'org/name/config.json'), '{}');
    await expect(store.fetch('org/name')).resolves.toMatchObject({ owned: false });
    expect(server.requests).toHaveLength(asked);
  });

  it('the token goes to the hub, and not to where it redirects', async () => {
    store.policy.hubToken = 'a-token-of-any-shape';
    respond = (request, response) => {
      const isContent = request.url?.includes('/resolve/') === true;
      if (isContent) response.writeHead(302, { location: 'http://127.0.0.1:9/content' }).end();
      return isContent;
    };
    const error = await failureOf(store.fetch('hf://org/name'));
    expect(server.requests[0]?.headers.authorization).toBe('Bearer a-token-of-any-shape');
    expect(error).toMatchObject({ code: 'BAD_REQUEST' });
    expect(error.message).toMatch(/127.0.0.1:9 has a private address/);
    const guard = hubGuard(store.policy);
    expect(guard.secretHeaders?.(new URL('https://cdn.example/content'))).toEqual({});
    expect(guard.secretHeaders?.(new URL(`${server.origin}/x`))).toHaveProperty('authorization');
  });

  it('a broken download is continued', async () => {
    let broken = 0;
    respond = (request, response) => {
      const range = request.headers.range ?? '';
      if (!request.url?.endsWith('model.safetensors') || range === 'bytes=0-0' || broken > 0) return false;
      broken += 1;
      response.writeHead(200, { 'content-length': LARGE.length, etag: '"x"' });
      response.write(LARGE.subarray(0, 60_000), () => response.destroy());
      return true;
    };
    const { folder } = await store.fetch('hf://org/name');
    expect(broken).toBe(1);
    expect(existsSync(path.join(folder, 'model.safetensors'))).toBe(true);
    const ranges = server.requests.map(({ headers }) => headers.range ?? '');
    expect(ranges.some((range) => /^bytes=[1-9]/.test(range))).toBe(true);
  });

  it.each(['model.safetensors', 'config.json'])('a damaged %s is refused', async (damaged) => {
    respond = (request, response) => {
      const isIt = request.url?.endsWith(`/${damaged}`) === true;
      if (isIt) serveBytes(request, response, Buffer.alloc(files[damaged]!.length, '!'), '"x"');
      return isIt;
    };
    const error = await failureOf(store.fetch('hf://org/name'));
    expect(error).toMatchObject({ code: 'CHECKPOINT_INVALID' });
    expect(error.message).toMatch(new RegExp(`${damaged} arrived damaged`));
    expect(store.left()).toEqual([]);
  });

  it.each([
    [401, /HF_TOKEN/],
    [404, /answers 404/],
    [500, /answers 500/],
  ])('an answer of %i is MODEL_NOT_FOUND', async (status, message) => {
    respond = (_request, response) => {
      response.writeHead(status).end();
      return true;
    };
    const error = await failureOf(store.fetch('hf://org/name'));
    expect(error).toMatchObject({ code: 'MODEL_NOT_FOUND' });
    expect(error.message).toMatch(message);
  });

  it('limits are those of the listing, before anything is downloaded', async () => {
    store.policy.maxDownloadBytes = 1000;
    expect((await failureOf(store.fetch('hf://org/name'))).message).toMatch(/at most 1000 may be/);
    store.policy.maxDownloadBytes = 1 << 20;
    store.policy.maxEntries = 3;
    expect((await failureOf(store.fetch('hf://org/name'))).message).toMatch(/more than 3 files/);
    expect(existsSync(store.downloadFolder)).toBe(false);
  });

  it('a repository without config.json, and an unreachable hub, are MODEL_NOT_FOUND', async () => {
    files = { 'README.md': Buffer.from('#') };
    expect(await codeOf(store.fetch('hf://org/name'))).toBe('MODEL_NOT_FOUND');
    store.policy.hubEndpoint = 'http://127.0.0.1:9';
    expect(await codeOf(store.fetch('hf://org/name'))).toBe('MODEL_NOT_FOUND');
  });
});
