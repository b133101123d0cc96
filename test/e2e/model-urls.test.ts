/**
 * Every form of a model's URL against the running server (a third of them a run, all in test:long): what is fetched, unpacked and split
 * answers as the folder itself does.
 *
 * http(s), S3 and the hub are local servers that speak their protocols.
 */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { drawn } from '../fixtures/seeded-random.js';
import { gitBlobId, md5, sha256, tarBytes, zipBytes } from '../support/model-store-bytes.js';
import { type LoopbackServer, serveBytes, startServer } from '../support/model-store-fixture.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const MODEL = path.join(repositoryRoot, 'models', 'embedded');
const COMMIT = 'c0ffee'.padEnd(40, '0');
const LIMIT_MS = 180_000;
const PROMPT = { inputs: 'Once upon a time', parameters: { max_new_tokens: 8, do_sample: false } };

const files = Object.fromEntries(
  readdirSync(MODEL).map((name) => [name, readFileSync(path.join(MODEL, name))]),
);
const entries = Object.entries(files).map(([name, content]) => ({ name, content }));
const tar = tarBytes(entries);
const archives: Record<string, Buffer> = {
  'm.tar': tar,
  'm.tar.gz': gzipSync(tar, { level: 1 }),
  'm.tgz': gzipSync(tar, { level: 1 }),
  'm.zip': zipBytes(entries),
};

/** Sends the second half of /slow/… when it is called. */
let letGo = (): void => {};

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://host');
  const name = path.basename(pathname);
  const bytes = archives[name] ?? files[name];
  if (pathname.startsWith('/slow/')) {
    response.writeHead(200, { 'content-length': tar.length });
    response.write(tar.subarray(0, tar.length / 2));
    letGo = () => response.end(tar.subarray(tar.length / 2));
  } else if (pathname === '/api/models/org/name/revision/main') {
    response.end(JSON.stringify({ _id: '1', id: 'org/name', sha: COMMIT, gated: false }));
  } else if (pathname === `/api/models/org/name/tree/${COMMIT}`) {
    response.end(JSON.stringify(Object.keys(files).map(treeEntry)));
  } else if (searchParams.has('list-type')) {
    const listed = Object.entries(files).map(
      ([key, content]) =>
        `<Contents><Key>m/${key}</Key><ETag>"${md5(content)}"</ETag><Size>${content.length}</Size></Contents>`,
    );
    response.writeHead(200, { 'content-type': 'application/xml' });
    response.end(`<ListBucketResult><IsTruncated>false</IsTruncated>${listed.join('')}</ListBucketResult>`);
  } else if (bytes === undefined) response.writeHead(404).end();
  else serveBytes(request, response, bytes, `"${md5(bytes)}"`);
}

function treeEntry(name: string) {
  const content = files[name]!;
  const entry = { type: 'file', path: name, size: content.length, oid: gitBlobId(content) };
  if (!name.endsWith('.safetensors')) return entry;
  return { ...entry, lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } };
}

let remote: LoopbackServer;
let server: ServerProcess;
let scratch: string;
let expected: string;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'model-urls-'));
  for (const [name, bytes] of Object.entries(archives)) writeFileSync(path.join(scratch, name), bytes);
  mkdirSync(path.join(scratch, 'by-id'));
  writeFileSync(path.join(scratch, 'by-id', 'serving.properties'), 'option.model_id=org/name\n');
  remote = await startServer(answer);
  server = await ServerProcess.start({
    TENSOR_PARALLEL_DEGREE: '1',
    SERVING_LOAD_MODELS: `[start:v1::cpu]=${MODEL} archive=${path.join(scratch, 'm.zip')}`,
    SERVING_DOWNLOAD_DIR: path.join(scratch, 'downloads'),
    SERVING_ALLOWED_HOSTS: remote.host,
    SERVING_REGISTRATION_FOLDERS: scratch,
    HF_ENDPOINT: remote.origin,
    AWS_ENDPOINT_URL_S3: remote.origin,
    ...{ AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' },
  });
  expected = await answerOf('start/v1');
}, LIMIT_MS);
afterAll(async () => {
  await server?.stop();
  await remote?.close();
  rmSync(scratch, { recursive: true, force: true });
});

async function answerOf(model: string): Promise<string> {
  const response = await server.post(`/predictions/${model}`, PROMPT);
  expect(response.status).toBe(200);
  return ((await response.json()) as { generated_text: string }).generated_text;
}

const register = (url: string, name: string, more = '') =>
  fetch(`${server.url}/models?url=${encodeURIComponent(url)}&model_name=${name}${more}`, { method: 'POST' });

it('an archive of load_models answers as the folder does', async () => {
  expect(await answerOf('archive')).toBe(expected);
});

const FORMS: readonly (readonly [string, () => string])[] = [
  ['a file URL', () => pathToFileURL(MODEL).href],
  ['a .tar', () => path.join(scratch, 'm.tar')],
  ["a folder's option.model_id", () => path.join(scratch, 'by-id')],
  ['a .tar.gz', () => path.join(scratch, 'm.tar.gz')],
  ['a .tgz by file URL', () => pathToFileURL(path.join(scratch, 'm.tgz')).href],
  ['a .zip', () => path.join(scratch, 'm.zip')],
  ['http', () => `${remote.origin}/m.tar.gz?signature=x`],
  ['S3', () => 's3://bucket/m/'],
  ['the hub', () => 'hf://org/name'],
];

// One of each three lines a run.
it.each(drawn(FORMS, 3))(
  '%s is registered, answers as the folder does, and leaves nothing unfinished or in use',
  async (_form, url) => {
    const registered = await register(url(), 'one');
    expect([registered.status, await registered.text()]).toEqual([
      200,
      '{\n  "status": "Model \\"one\\" registered."\n}\n',
    ]);
    expect(await answerOf('one')).toBe(expected);
    const gone = await fetch(`${server.url}/models/one`, { method: 'DELETE' });
    expect(gone.status).toBe(200);
    // What was fetched stays for the next time.
    const left = readdirSync(path.join(scratch, 'downloads'));
    expect(left.filter((name) => /^\.(?:work|once|partial|trash)-/.test(name))).toEqual([]);
    // The archive of load_models.
    expect(left.filter((name) => name.startsWith('.use-'))).toHaveLength(1);
  },
  LIMIT_MS,
);

it('a GGUF file is registered by its path, named after it, and chats by its own template and tokens', async () => {
  const file = path.join(scratch, 'tiny-qwen.gguf');
  copyFileSync(path.join(repositoryRoot, 'test', 'golden', 'gguf', 'qwen2.gguf'), file);
  const registered = await fetch(`${server.url}/models?url=${encodeURIComponent(file)}`, { method: 'POST' });
  expect([registered.status, await registered.text()]).toEqual([200, expect.stringContaining('tiny_qwen')]);
  const chat = await server.post('/v1/chat/completions', {
    model: 'tiny_qwen',
    messages: [{ role: 'user', content: 'hi' }],
    max_tokens: 4,
    temperature: 0,
  });
  // A token a byte of what the template makes, after the begin-of-text.
  const prompt_tokens = 1 + 'user: hi\nassistant:'.length;
  expect(await chat.json()).toMatchObject({ usage: { prompt_tokens, completion_tokens: 4 } });
  expect((await fetch(`${server.url}/models/tiny_qwen`, { method: 'DELETE' })).status).toBe(200);
});

it(
  'tells while it loads how far it is, and what does not load leaves the version that serves alone',
  async () => {
    const scheduled = await register(
      `${remote.origin}/slow/m.tar`,
      'start',
      '&model_version=v2&synchronous=false',
    );
    expect(scheduled.status).toBe(202);
    const describe = async () => {
      const response = await fetch(`${server.url}/models/start/v2`);
      return ((await response.json()) as { models: { status: string; loading?: object }[] }[])[0]!.models[0]!;
    };
    let described = await describe();
    while (
      !('doneBytes' in (described.loading ?? {})) ||
      Reflect.get(described.loading!, 'doneBytes') === 0
    ) {
      described = await describe();
    }
    expect(described).toMatchObject({
      status: 'PENDING',
      loading: {
        stage: 'download',
        percent: expect.any(Number),
        doneBytes: expect.any(Number),
        totalBytes: tar.length,
      },
    });
    expect(Reflect.get(described.loading!, 'doneBytes')).toBeLessThanOrEqual(tar.length / 2 + 1);
    const failed = await register(`${remote.origin}/nothing.zip`, 'start', '&model_version=v3');
    expect([failed.status, await failed.json()]).toMatchObject([404, { type: 'ModelNotFoundException' }]);
    // Round robin passes over what cannot serve.
    for (let turn = 0; turn < 3; turn += 1) expect(await answerOf('start')).toBe(expected);
    letGo();
    while ((await fetch(`${server.url}/models/start/v2/ready`)).status !== 200);
    expect(await answerOf('start/v2')).toBe(expected);
  },
  LIMIT_MS,
);

it('a host that is not allowed, and a hostile archive, are refused and leave nothing', async () => {
  const denied = await register('http://127.0.0.1:9/m.zip', 'two');
  expect([denied.status, await denied.json()]).toMatchObject([
    400,
    { message: expect.stringContaining('not on the list of allowed hosts') },
  ]);
  writeFileSync(path.join(scratch, 'evil.tar'), tarBytes([{ name: '../../evil', content: 'x' }]));
  const evil = await register(path.join(scratch, 'evil.tar'), 'two');
  expect([evil.status, await evil.json()]).toMatchObject([
    400,
    { type: 'MalformedModelException', message: expect.stringContaining('leaves the target folder') },
  ]);
  expect((await fetch(`${server.url}/models/two`)).status).toBe(404);
  expect(await answerOf('start/v1')).toBe(expected);
});
