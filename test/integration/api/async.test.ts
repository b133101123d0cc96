/** Asynchronous answers, priorities and deadlines over a real port. */
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { FolderLease } from '../../../server/machine/folder-lease.js';
import { identityOf } from '../../../server/machine/process-identity.js';
import { aborted, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;
/** Renews the file that it is given, as another server does; a thread, for whoever looks holds up this one. */
const RENEWS = `
const { parentPort, workerData } = require('node:worker_threads');
const { utimesSync } = require('node:fs');
setInterval(() => {
  utimesSync(workerData, new Date(), new Date());
  parentPort.postMessage('renewed');
}, 5);`;
let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());

async function start(
  body: object = { inputs: 'a' },
  headers: Record<string, string> = {},
  path = '/predictions/mlp',
) {
  const response = await postJson(test.url + path, body, { 'x-synchronous': 'false', ...headers });
  return { ...response, token: response.headers.get('x-next-token') ?? '' };
}

async function poll(token: string, headers: Record<string, string> = {}, url = test.url) {
  const response = await fetch(`${url}/predictions/mlp`, {
    method: 'POST',
    headers: { 'x-starting-token': token, ...headers },
  });
  return {
    status: response.status,
    reason: response.statusText,
    next: response.headers.get('x-next-token'),
    type: response.headers.get('content-type'),
    attributes: response.headers.get('x-amzn-sagemaker-custom-attributes'),
    text: await response.text(),
  };
}

/** Polls until it is no longer pending. */
async function result(token: string) {
  let polled = await poll(token);
  while (polled.status === 202) polled = await poll(token);
  return polled;
}

describe('x-synchronous: false', () => {
  it('check 14: empty with a token, pending, then the answer; a bad token is a 400', async () => {
    test.service.words = null;
    const started = await start();
    expect([started.status, started.text]).toEqual([200, '']);
    expect(started.token).toMatch(UUID);
    expect(started.headers.get('x-amzn-sagemaker-custom-attributes')).toBe(`x-next-token=${started.token}`);
    const job = await test.service.request(0);
    expect(await poll(started.token)).toMatchObject({
      status: 202,
      reason: 'The model result is not yet available',
      next: started.token,
      text: '',
    });
    job.token(' one');
    job.finish('length');
    const done = await result(started.token);
    expect(done).toMatchObject({ status: 200, next: null, attributes: null });
    expect(done.type).toMatch(/^application\/json/);
    expect(JSON.parse(done.text)).toEqual({ generated_text: ' one' });
    expect((await poll(started.token)).text).toBe(done.text);
    for (const bad of ['nonsense', 'f'.repeat(36), `${started.token}99`, `${started.token}x`]) {
      const refused = await poll(bad);
      expect([refused.status, (JSON.parse(refused.text) as { message: string }).message]).toEqual([
        400,
        `Invalid x-starting-token: ${bad}`,
      ]);
    }
  });

  it('gives a stream line by line, as many as are asked for, in their order', async () => {
    test.service.words = null;
    const { token } = await start({ inputs: 'a', stream: true });
    const job = await test.service.request(0);
    for (const word of [' a', ' b', ' c']) job.token(word);
    let polled = await result(token);
    const texts: string[] = [];
    const read = (text: string) => {
      const lines = text.split('\n').filter((line) => line !== '');
      texts.push(...lines.map((line) => (JSON.parse(line) as { token: { text: string } }).token.text));
    };
    read(polled.text);
    expect(polled.type).toBe('application/jsonlines');
    expect(polled.next).toMatch(new RegExp(`^${token}\\d+$`));
    job.token(' d');
    job.finish('length');
    let sizes = 0;
    while (polled.next !== null) {
      polled = await poll(polled.next, { 'x-max-items': '1' });
      if (polled.status === 202) continue;
      sizes = Math.max(sizes, polled.text.split('\n').length - 1);
      read(polled.text);
    }
    expect(sizes).toBe(1);
    expect(texts).toEqual([' a', ' b', ' c', ' d']);
  });

  it('goes on when the client is gone, and an OpenAI body works too', async () => {
    test.service.words = null;
    const { token } = await start({ prompt: 'a' }, { connection: 'close' }, '/invocations');
    const job = await test.service.request(0);
    expect(job.signal.aborted).toBe(false);
    job.token(' one');
    job.finish('length');
    expect(JSON.parse((await result(token)).text)).toMatchObject({ choices: [{ text: ' one' }] });
    expect(job.signal.aborted).toBe(false);
  });

  it.each([
    ['/v1/chat/completions', { model: 'mlp', messages: [{ role: 'user', content: 'a' }] }, 'message'],
    ['/v1/completions', { model: 'mlp', prompt: 'a' }, 'text'],
  ])('is at %s too, as in DJLServing', async (path, body, field) => {
    const started = await start(body, {}, path);
    expect([started.status, started.text]).toEqual([200, '']);
    expect(started.token).toMatch(UUID);
    const polling = (token: string) =>
      fetch(test.url + path, { method: 'POST', headers: { 'x-starting-token': token } });
    let polled = await polling(started.token);
    while (polled.status === 202) polled = await polling(started.token);
    expect(await polled.json()).toMatchObject({ choices: [{ [field]: expect.anything() }] });
    const bad = await polling('nonsense');
    expect([bad.status, await bad.json()]).toMatchObject([
      400,
      { error: { message: 'Invalid x-starting-token: nonsense', code: 'invalid_token' } },
    ]);
  });

  it('is refused like any other request before its job is accepted, and leaves nothing behind', async () => {
    const small = await startServer({ asyncResultLimit: 1 });
    small.service.refuseWith = new ServingError(
      'QUEUE_FULL',
      'Worker queue capacity exceeded for model: mlp',
    );
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const refused = await postJson(
        `${small.url}/predictions/mlp`,
        { inputs: 'a' },
        { 'x-synchronous': 'false' },
      );
      expect(JSON.parse(refused.text)).toMatchObject({
        code: 503,
        message: 'Worker queue capacity exceeded for model: mlp',
      });
    }
    await small.server.close();
  });

  it('a job that fails is a 500 with its message', async () => {
    test.service.words = null;
    const { token } = await start();
    (await test.service.request(0)).fail(new ServingError('WORKER_FAILED', 'rank 1 died'));
    const polled = await result(token);
    expect([polled.status, JSON.parse(polled.text)]).toEqual([
      500,
      { code: 500, type: 'WlmException', message: 'rank 1 died' },
    ]);
  });

  it('keeps at most async_result_limit answers; one that was read to its end makes room', async () => {
    const small = await startServer({ asyncResultLimit: 1 });
    const ask = () => postJson(`${small.url}/predictions/mlp`, { inputs: 'a' }, { 'x-synchronous': 'false' });
    const first = (await ask()).headers.get('x-next-token')!;
    const refused = await ask();
    expect([refused.status, (JSON.parse(refused.text) as { message: string }).message]).toEqual([
      503,
      '1 asynchronous answers are kept, async_result_limit is 1: read some to their end first',
    ]);
    let polled = await poll(first, {}, small.url);
    while (polled.status === 202) polled = await poll(first, {}, small.url);
    expect((await ask()).status).toBe(200);
    expect((await poll(first, {}, small.url)).status).toBe(400);
    await small.server.close();
  });

  it('ends its jobs when the server ends', async () => {
    const other = await startServer({ drainTimeoutSeconds: 0.05 });
    other.service.words = null;
    await postJson(`${other.url}/predictions/mlp`, { inputs: 'a' }, { 'x-synchronous': 'false' });
    const job = await other.service.request(0);
    await other.server.close();
    await aborted(job.signal);
  });

  it('gives an answer that is there while the server drains, and takes nothing new', async () => {
    const { token } = await start();
    let polled = await poll(token);
    while (polled.status === 202) polled = await poll(token);
    test.server.setDraining();
    const again = await poll(token);
    expect([again.status, again.text]).toEqual([200, polled.text]);
    const refused = await postJson(
      `${test.url}/predictions/mlp`,
      { inputs: 'a' },
      { 'x-synchronous': 'false' },
    );
    expect(refused.status).toBe(503);
  });

  it.each(['0', 'x', '-1', '1000001'])('refuses x-max-items: %s', async (given) => {
    const { token } = await start();
    const refused = await poll(token, { 'x-max-items': given });
    expect(refused.status).toBe(400);
    expect(refused.text).toContain(`x-max-items must be an integer of 1 … 1000000, got \\"${given}\\"`);
  });

  it("works through SageMaker's custom attributes alone", async () => {
    const attributes = (text: string) => ({ 'X-Amzn-SageMaker-Custom-Attributes': text });
    const started = await postJson(
      `${test.url}/invocations`,
      { inputs: 'a' },
      attributes('x-synchronous=false; x-priority=1'),
    );
    const token = /^x-next-token=(.+)$/.exec(started.headers.get('x-amzn-sagemaker-custom-attributes')!)![1]!;
    expect((await test.service.request(0)).request.priority).toBe(1);
    let polled = await postJson(`${test.url}/invocations`, '', attributes(`x-starting-token=${token}`));
    while (polled.status === 202) {
      polled = await postJson(`${test.url}/invocations`, '', attributes(`x-starting-token=${token}`));
    }
    expect(JSON.parse(polled.text)).toEqual({ generated_text: ' w1 w2 w3' });
  });
});

describe('async_result_folder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = path.join(await mkdtemp(path.join(tmpdir(), 'async-')), 'kept');
    await test.server.close();
    test = await startServer({ asyncResultFolder: folder });
  });
  afterEach(() => rm(path.dirname(folder), { recursive: true }));
  const restart = async (more = {}) => {
    await test.server.close();
    test = await startServer({ asyncResultFolder: folder, ...more });
  };
  const kept = async () => (await readdir(folder)).filter((name) => !name.startsWith('.server-'));
  const modeOf = async (at: string) => ((await stat(at)).mode & 0o777).toString(8);

  it('keeps answers, streams and failures over a restart, in files that nobody else reads', async () => {
    test.service.words = null;
    const tokens = [
      (await start()).token,
      (await start({ inputs: 'a', stream: true })).token,
      (await start()).token,
    ];
    for (const index of [0, 1]) {
      const job = await test.service.request(index);
      job.token(' one');
      job.finish('length');
    }
    (await test.service.request(2)).fail(new ServingError('WORKER_FAILED', 'rank 1 is gone'));
    const before = [];
    for (const token of tokens) before.push(await result(token));
    await restart();
    const after = [];
    for (const token of tokens) after.push(await poll(token));
    expect(after).toEqual(before);
    expect(after.map(({ status }) => status)).toEqual([200, 200, 500]);
    expect(await modeOf(folder)).toBe('700');
    for (const name of await readdir(folder)) expect(await modeOf(path.join(folder, name))).toBe('600');
    // Read to its end, it makes room as before.
    await restart({ asyncResultLimit: 1 });
    expect(await kept()).toHaveLength(1);
  });

  it('waits for an answer that is being made while it drains, and says what was lost where it was killed', async () => {
    test.service.words = null;
    const { token } = await start();
    const job = await test.service.request(0);
    const closing = test.server.close();
    job.token(' one');
    job.finish('length');
    await closing;
    test = await startServer({ asyncResultFolder: folder });
    expect(await poll(token)).toMatchObject({ status: 200, text: '{"generated_text":" one"}' });
    test.service.words = null;
    const lost = (await start()).token;
    // As after kill -9: the first server never says that it ends.
    const next = await startServer({ asyncResultFolder: folder });
    const polled = await poll(lost, {}, next.url);
    expect([polled.status, polled.text]).toEqual([500, expect.stringContaining('The server ended before')]);
    await next.server.close();
    (await test.service.request(0)).finish('length');
  });

  it('purges what is past its time, damaged or half written at the start, and leaves other files alone', async () => {
    const { token } = await start();
    await result(token);
    await test.server.close();
    const [name] = await kept();
    const file = path.join(folder, name!);
    const content = JSON.parse(await readFile(file, 'utf8')) as { endedAt: number };
    await writeFile(file, JSON.stringify({ ...content, endedAt: Date.now() - 3_600_001 }));
    const other = (digit: string) => `${digit.repeat(8)}-0000-4000-8000-000000000000.json`;
    await writeFile(path.join(folder, other('1')), '{"form": 1, "items": [7]}');
    await writeFile(
      path.join(folder, other('2')),
      JSON.stringify({ ...content, items: ['x'.repeat(2_000_000)] }),
    );
    await writeFile(path.join(folder, `${other('3')}.new`), '{');
    await writeFile(path.join(folder, 'notes.txt'), 'mine');
    test = await startServer({ asyncResultFolder: folder, asyncResultMemoryMb: 1 });
    expect(await kept()).toEqual(['notes.txt']);
    expect((await poll(token)).status).toBe(400);
    await test.logged(({ msg }) => String(msg).includes('is removed: not of our form'));
  });

  it('is refused to a second server while the first runs, by whichever machine, and free when it has ended', async () => {
    const [own] = (await readdir(folder)).filter((name) => name.startsWith('.server-'));
    const asked = () => startServer({ asyncResultFolder: folder });
    await test.server.close();
    expect(await readdir(folder)).toEqual([]);
    // Its parent runs for as long as this test does, and is not this process.
    const other = `.server-${identityOf(process.ppid)}`;
    await writeFile(path.join(folder, other), '');
    const half = `${'3'.repeat(8)}-0000-4000-8000-000000000000.json.new`;
    await writeFile(path.join(folder, half), 'being written by the other one');
    await expect(asked()).rejects.toThrow(
      `async_result_folder: ${folder} is process ${process.ppid}'s, which runs: give each server a folder of its own`,
    );
    expect((await readdir(folder)).sort()).toEqual([other, half].sort());
    // One that is gone, whose number another process has meanwhile.
    await rename(path.join(folder, other), path.join(folder, other.replace(/\d+$/, '1')));
    test = await asked();
    expect(await readdir(folder)).toEqual([own]);
    await test.server.close();
    // Another machine's, that is not renewed.
    const foreign = path.join(folder, '.server-00000000-1-1');
    await writeFile(foreign, '');
    new FolderLease(folder, 'a', 1).giveBack();
    await writeFile(foreign, '');
    const renewal = new Worker(RENEWS, { eval: true, workerData: foreign });
    await once(renewal, 'message');
    expect(() => new FolderLease(folder, 'key', 5000)).toThrow('is a server of another machine or container');
    await renewal.terminate();
    await rm(foreign);
    test = await asked();
  });

  it('a folder that cannot be had ends the start with the name of the key', async () => {
    await writeFile(path.join(folder, 'file'), '');
    await expect(startServer({ asyncResultFolder: path.join(folder, 'file') })).rejects.toThrow(
      /^async_result_folder: .*ENOTDIR|EEXIST/,
    );
  });
});

describe('x-priority and x-request-timeout-ms', () => {
  it.each(['/predictions/mlp', '/v1/completions'])('are part of the request: %s', async (path) => {
    const body = path.startsWith('/v1') ? { prompt: 'a' } : { inputs: 'a' };
    await postJson(test.url + path, body, { 'x-priority': '-2', 'x-request-timeout-ms': '1500' });
    await postJson(test.url + path, body);
    const [given, none] = test.service.submitted.map(({ request }) => request);
    expect(given).toMatchObject({ priority: -2, timeoutMs: 1500 });
    expect(none).not.toHaveProperty('priority');
    expect(none).not.toHaveProperty('timeoutMs');
  });

  it.each([
    ['x-priority', 'high'],
    ['x-priority', '1.5'],
    ['x-priority', '2147483648'],
    ['x-request-timeout-ms', '0'],
    ['x-request-timeout-ms', '86400001'],
  ])('%s: %s is refused with its limits', async (name, value) => {
    const djl = await postJson(`${test.url}/predictions/mlp`, { inputs: 'a' }, { [name]: value });
    expect([djl.status, (JSON.parse(djl.text) as { message: string }).message]).toEqual([
      400,
      expect.stringMatching(new RegExp(`^${name} must be an integer of .* … .*, got "${value}"$`)),
    ]);
    expect((await postJson(`${test.url}/v1/completions`, { prompt: 'a' }, { [name]: value })).status).toBe(
      400,
    );
    expect(test.service.submitted).toEqual([]);
  });

  it('a deadline of the client is a 408; a limit of the server is what DJLServing answers', async () => {
    test.service.refuseWith = new ServingError('REQUEST_TIMEOUT', 'waited 5 ms');
    const own = await postJson(
      `${test.url}/predictions/mlp`,
      { inputs: 'a' },
      { 'x-request-timeout-ms': '5' },
    );
    expect([own.status, JSON.parse(own.text)]).toEqual([
      408,
      { code: 408, type: 'TranslateException', message: 'waited 5 ms' },
    ]);
    expect((await postJson(`${test.url}/predictions/mlp`, { inputs: 'a' })).status).toBe(400);
    expect((await postJson(`${test.url}/v1/completions`, { prompt: 'a' })).status).toBe(408);
  });
});

describe('Retry-After', () => {
  it('is what the queue estimates, in whole seconds; DJLServing has none otherwise', async () => {
    const header = async (path: string, body: object) =>
      (await postJson(test.url + path, body)).headers.get('retry-after');
    test.service.refuseWith = new ServingError('QUEUE_FULL', 'full', { retryAfterSeconds: 2.2 });
    expect(await header('/predictions/mlp', { inputs: 'a' })).toBe('3');
    expect(await header('/v1/completions', { prompt: 'a' })).toBe('3');
    test.service.refuseWith = new ServingError('QUEUE_FULL', 'full');
    expect(await header('/predictions/mlp', { inputs: 'a' })).toBeNull();
    expect(await header('/v1/completions', { prompt: 'a' })).toBe('1');
    test.service.refuseWith = new ServingError('BAD_REQUEST', 'bad');
    expect(await header('/v1/completions', { prompt: 'a' })).toBeNull();
  });
});
