/** Who may do what: every route of the running server against every kind of key; open addresses; browsers; salts and priorities by key. */
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { digestOf, SCOPES, type Scope } from '../../../server/access/access-key.js';
import type { ServerConfig } from '../../../server/config/config.js';
import { type AskedCall, askedCalls, isRefusal } from '../../support/access-calls.js';
import {
  ACCESS_FILE,
  askedRoutes,
  callTable,
  isRight,
  routeTable,
  statusOf as status,
} from '../../support/access-table.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-access-'));
const keyFile = path.join(folder, 'keys.json');
const secretOf = (name: string) => `secret-of-${name}`;
const running: TestServer[] = [];

function entry(name: string, scopes: readonly Scope[], more: object = {}) {
  return { name, sha256: digestOf(secretOf(name)).toString('hex'), scopes, ...more };
}

function writeKeys(keys: readonly object[], mode = 0o600): void {
  writeFileSync(`${keyFile}.new`, JSON.stringify({ keys }));
  chmodSync(`${keyFile}.new`, mode);
  renameSync(`${keyFile}.new`, keyFile);
}

async function start(config: Partial<ServerConfig> = {}): Promise<TestServer> {
  const metrics = { prometheus: true, contentType: 'text/plain', text: async () => '' };
  const server = await startServer(config, 'mlp', { metrics });
  running.push(server);
  return server;
}

const bearer = (name: string) => ({ authorization: `Bearer ${secretOf(name)}` });

afterEach(async () => {
  await Promise.all(running.splice(0).map(({ server }) => server.close()));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A part of the document, as `npm run docs` has written it. */
function told(part: string): string | undefined {
  const text = readFileSync(path.join(repositoryRoot, ACCESS_FILE), 'utf8');
  return text.split(`<!-- ${part} -->\n`)[1]?.split(`<!-- /${part} -->`)[0];
}

describe('every call of gRPC', () => {
  it('answers nobody without a key of its scope, but for the probes and what says which calls there are', async () => {
    const asked = await askedCalls();
    const scopesOf = ({ byScope }: AskedCall) => SCOPES.filter((scope) => !isRefusal(byScope[scope]));
    for (const [part, calls] of Object.entries(asked)) {
      expect(told(part)).toBe(callTable(calls));
      for (const call of calls) {
        const isOpen = /^\/grpc\.(?:health|reflection)\.|\/Server(?:Live|Ready)$/.test(call.path);
        expect([call.path, !isRefusal(call.none), !isRefusal(call.unknown)]).toEqual([
          call.path,
          isOpen,
          isOpen,
        ]);
        expect([call.path, scopesOf(call).length]).toEqual([call.path, isOpen ? SCOPES.length : 1]);
      }
    }
    expect(asked.grpc?.length).toBeGreaterThan(16);
  });
});

describe('every route', () => {
  it('of TorchServe’s API answers nobody without a key of its scope', async () => {
    const routes = await askedRoutes('torchserve');
    expect(routes.length).toBeGreaterThan(20);
    // What makes tokens asks for one by itself.
    expect(routes.filter((route) => !isRight(route)).map(({ url }) => url)).toEqual(['/token']);
    expect(told('torchserve')).toBe(routeTable(routes));
  });

  it('answers nobody without a key of its scope, but for the probes', async () => {
    const routes = await askedRoutes('usual');
    expect(routes.length).toBeGreaterThan(60);
    const open = routes.filter(({ access }) => access === 'open').map((route) => route.url);
    expect([...new Set(open)].sort()).toEqual([
      '/',
      '/health',
      '/health/live',
      '/health/ready',
      '/openapi.json',
      '/ping',
      '/v2/health/live',
      '/v2/health/ready',
    ]);
    expect(routes.filter((route) => !isRight(route))).toEqual([]);
    expect(told('http')).toBe(routeTable(routes));
    writeKeys(SCOPES.map((scope) => entry(scope, [scope])));
    const { url } = await start({ keyFile });
    expect(await status(`${url}/no/such/path`, 'GET')).toBe(401);
    expect(await status(`${url}/no/such/path`, 'GET', bearer('infer'))).toBe(404);
  });

  it('is told in the reference with the name of a model to those alone who may ask it', async () => {
    writeKeys(SCOPES.map((scope) => entry(scope, [scope])));
    const { url } = await start({ keyFile });
    const tells = async (at: string, headers = {}) =>
      (await (await fetch(url + at, { headers })).text()).includes('mlp');
    for (const at of ['/', '/openapi.json'])
      expect([
        at,
        await tells(at),
        await tells(at, bearer('metrics')),
        await tells(at, bearer('infer')),
      ]).toEqual([...[at, false, false, true]]);
  });

  it('is found in whatever form it is asked for, and no form is a way around or a 500', async () => {
    writeKeys(SCOPES.map((scope) => entry(scope, [scope])));
    const { url } = await start({ keyFile });
    const { hostname, port } = new URL(url);
    const asked = (method: string, path: string, name: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const to = { hostname, port, method, path, headers: bearer(name), agent: false };
        const client = httpRequest(to, (response) => {
          response.resume();
          resolve(response.statusCode!);
        });
        client.on('error', reject);
        client.end();
      });
    for (const path of [
      'http://localhost/models',
      'HTTP://evil.test/models?limit=1',
      '//models/',
      '/models?',
    ]) {
      expect([path, await asked('GET', path, 'infer')]).toEqual([path, path === '//models/' ? 404 : 403]);
      expect([path, await asked('GET', path, 'manage')]).toEqual([path, path === '//models/' ? 404 : 200]);
    }
    for (const path of ['*', 'http://localhost', 'x', 'http://localhost/models', 'file:///etc/passwd'])
      for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'])
        expect([path, method, (await asked(method, path, 'infer')) < 500]).toEqual([path, method, true]);
  });

  it('gives each dialect its own form of refusal, without the key', async () => {
    const { url } = await start({ apiKey: 'the-right-one' });
    const refused = await postJson(`${url}/v1/completions`, { prompt: 'a' }, { 'x-api-key': 'canary-key' });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toBe('Bearer');
    expect(JSON.parse(refused.text)).toMatchObject({ error: { code: 'invalid_api_key' } });
    expect(refused.text).not.toContain('canary');
    const djl = await postJson(`${url}/predictions/mlp`, { inputs: 'a' });
    expect(JSON.parse(djl.text)).toMatchObject({ code: 401, type: 'UnauthorizedException' });
    const right = await postJson(`${url}/predictions/mlp`, { inputs: 'a' }, { 'x-api-key': 'the-right-one' });
    expect(right.status).toBe(200);
  });
});

describe('the file of keys', () => {
  it('is read again when it changes; a file that is wrong changes nothing', async () => {
    writeKeys([entry('old', ['infer'])]);
    const { logged, url } = await start({ keyFile });
    const at = `${url}/v1/models`;
    expect(await status(at, 'GET', bearer('old'))).toBe(200);
    writeKeys([entry('new', ['infer'])]);
    expect(await status(at, 'GET', bearer('new'))).toBe(200);
    expect(await status(at, 'GET', bearer('old'))).toBe(401);
    writeKeys([entry('worse', ['infer'])], 0o644);
    expect(await status(at, 'GET', bearer('worse'))).toBe(401);
    expect(await status(at, 'GET', bearer('new'))).toBe(200);
    await logged(({ msg }) => String(msg).includes('may be read or written by others (mode 644)'));
  });

  it.each([
    ['is not JSON', '{'],
    ['is no file of keys, at /keys', '{"keys": 1}'],
    ['names two keys a', JSON.stringify({ keys: [entry('a', ['infer']), entry('a', ['infer'])] })],
  ])('refuses a start: it %s', async (reason, text) => {
    writeFileSync(keyFile, text);
    chmodSync(keyFile, 0o600);
    await expect(start({ keyFile })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(reason),
    });
  });
});

describe('an address that others reach', () => {
  const everywhere = { kind: 'tcp' as const, host: '0.0.0.0', port: 0, path: '' };

  it('is refused without keys, unless the operator says so', async () => {
    await expect(
      start({ inferenceAddress: everywhere, managementAddress: everywhere }),
    ).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('infer, manage, metrics need no key there'),
    });
    await start({ inferenceAddress: everywhere, managementAddress: everywhere, insecure: true });
    await start({ inferenceAddress: everywhere, managementAddress: everywhere, apiKey: 'some-key-1' });
    // Management stays on its own loopback address.
    await expect(start({ inferenceAddress: everywhere })).rejects.toThrow('infer need no key');
  });

  it('serves SageMaker its requests without a key, and nothing else', async () => {
    const { url } = await start({ anonymousScopes: ['infer'], insecure: true });
    expect((await postJson(`${url}/invocations`, { inputs: 'a' })).status).toBe(200);
    expect(await status(`${url}/models`, 'POST')).toBe(401);
    expect(await status(`${url}/metrics`, 'GET')).toBe(401);
  });
});

describe('a browser', () => {
  it('registers no model from a page of another origin, and reaches nothing by another name', async () => {
    const { url } = await start();
    const host = new URL(url).host;
    const at = `${url}/models?url=/tmp`;
    expect(await status(at, 'POST', { origin: 'http://evil.test', 'content-type': 'text/plain' })).toBe(403);
    expect(await status(at, 'POST', { origin: 'null' })).toBe(403);
    expect(await status(`${url}/server/logging?level=fatal`, 'GET', { 'sec-fetch-site': 'cross-site' })).toBe(
      403,
    );
    expect(await status(`${url}/v1/models`, 'GET', { host: 'rebound.test:8080' })).toBe(403);
    expect(await status(`${url}/v1/models`, 'GET', { origin: `http://${host}` })).toBe(200);
    expect(await status(`${url}/v1/models`, 'GET', { host: 'localhost:1' })).toBe(200);
    expect(await status(`${url}/ping`, 'GET', { host: 'rebound.test' })).not.toBe(403);
  });

  it('is told that no page of another origin may read an answer, unless the operator names one', async () => {
    const allowed = async (config: Partial<ServerConfig>) => {
      const { url } = await start(config);
      const { headers } = await fetch(`${url}/v1/models`);
      return headers.get('access-control-allow-origin');
    };
    expect([await allowed({}), await allowed({ corsAllowedOrigin: 'https://a.test' })]).toEqual([
      null,
      'https://a.test',
    ]);
  });

  it('may ask where the operator names the origin or the host', async () => {
    const { url } = await start({ corsAllowedOrigin: 'https://app.test', hostNames: ['api.test'] });
    const headers = { origin: 'https://app.test', host: 'api.test' };
    expect(await status(`${url}/v1/models`, 'GET', headers)).toBe(200);
  });
});

describe('a key', () => {
  it('reads its own asynchronous answers alone, and those that run are among its requests at once', async () => {
    writeKeys([entry('a', ['infer']), entry('b', ['infer'])]);
    const { service, url } = await start({ keyFile, keyConcurrentRequests: 2 });
    service.words = null;
    const ask = (name: string, more: Record<string, string>) =>
      postJson(`${url}/predictions/mlp`, { inputs: 'x' }, { ...bearer(name), ...more });
    const begin = (name: string) => ask(name, { 'x-synchronous': 'false' });
    const tokens = [await begin('a'), await begin('a')].map(({ headers }) => headers.get('x-next-token')!);
    expect(await begin('a')).toMatchObject({ status: 429 });
    expect(await begin('b')).toMatchObject({ status: 200 });
    const poll = (name: string) => ask(name, { 'x-starting-token': tokens[0]! });
    expect((await poll('a')).status).toBe(202);
    expect((await poll('b')).text).toContain('Invalid x-starting-token');
    service.submitted[0]!.finish('length');
    while ((await poll('a')).status === 202);
    expect(await begin('a')).toMatchObject({ status: 200 });
  });

  it('has prompts of its own in the prefix cache, and its range of priorities', async () => {
    writeKeys([entry('a', ['infer'], { priority: [2, 5] }), entry('b', ['infer'])]);
    const { service, url } = await start({ keyFile });
    const send = (headers: Record<string, string>) =>
      postJson(`${url}/v1/completions`, { model: 'mlp', prompt: 'x' }, headers);
    await send(bearer('a'));
    await send(bearer('b'));
    await send({ ...bearer('b'), 'x-cache-salt': 's' });
    const salts = service.submitted.map(({ request }) => request.cacheSalt);
    expect(new Set(salts).size).toBe(3);
    expect(salts).not.toContain(undefined);
    expect(service.submitted.map(({ request }) => request.priority)).toEqual([2, undefined, undefined]);
    expect((await send({ ...bearer('a'), 'x-priority': '-2147483648' })).text).toContain('of 2 … 5');
    expect((await send({ ...bearer('a'), 'x-priority': '5' })).status).toBe(200);
  });
});
