/** The listener: start and end, draining, the access log, CORS, addresses. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { aborted, postJson, RawExchange, startServer } from '../../support/http-fixtures.js';

describe('listening', () => {
  it('gives its real address and writes one line a request', async () => {
    const { server, url, logged } = await startServer();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    await postJson(`${url}/predictions/mlp`, { inputs: 'a' }, { 'x-request-id': 'seen' });
    expect(await logged(({ msg }) => msg === 'access')).toMatchObject({
      reqId: 'seen',
      ip: '127.0.0.1',
      method: 'POST',
      uri: '/predictions/mlp',
      status: 200,
      complete: true,
    });
    await server.close();
    await expect(fetch(url)).rejects.toThrow();
  });

  it('says which address is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const { port } = taken.address() as { port: number };
    const inferenceAddress = { kind: 'tcp' as const, host: '127.0.0.1', port, path: '' };
    await expect(startServer({ inferenceAddress })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: `inference_address: cannot listen on 127.0.0.1:${port}: the address is in use: end what listens there, or give another (--port)`,
    });
    taken.close();
  });

  it('takes a Unix socket, also where a killed server left one, but no other file', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-http-'));
    const socketPath = path.join(folder, 'http.sock');
    // What a killed server leaves: a socket file that nobody listens on.
    const left = createServer().listen(socketPath);
    await new Promise((resolve) => left.once('listening', resolve));
    const inferenceAddress = { kind: 'unix' as const, host: '', port: 0, path: socketPath };
    const { server, url } = await startServer({ inferenceAddress });
    expect(url).toBe(`unix:${socketPath}`);
    const status = await new Promise((resolve) => {
      httpRequest({ socketPath, path: '/ping' }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).end();
    });
    expect(status).toBe(200);
    await server.close();
    left.close();
    const file = path.join(folder, 'precious');
    writeFileSync(file, 'x');
    await expect(
      startServer({ inferenceAddress: { ...inferenceAddress, path: file } }),
    ).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    rmSync(folder, { recursive: true });
  });
});

describe('ending', () => {
  it('refuses new requests with 503 while running ones go on, in each dialect', async () => {
    const { server, service, url } = await startServer();
    service.words = null;
    const pending = RawExchange.post(`${url}/predictions/mlp`, { inputs: 'a', stream: true });
    const job = await service.request(0);
    job.token(' one');
    const running = await pending;
    await running.chunk();
    server.setDraining();
    const djl = await postJson(`${url}/predictions/mlp`, { inputs: 'a' });
    expect([djl.status, djl.headers.get('connection')]).toEqual([503, 'close']);
    expect(JSON.parse(djl.text)).toMatchObject({ code: 503, type: 'WlmShutdownException' });
    const openAi = await postJson(`${url}/v1/completions`, { prompt: 'a' });
    expect(JSON.parse(openAi.text)).toMatchObject({ error: { code: 'shutting_down' } });
    expect((await fetch(`${url}/ping`)).status).toBe(503);
    const closed = server.close();
    job.token(' two');
    job.finish('length');
    expect(await running.rest()).toContain('"generated_text":" one two"');
    await closed;
  });

  it('cuts what runs longer than drain_timeout', async () => {
    const { server, service, url } = await startServer({ drainTimeoutSeconds: 0.05 });
    service.words = null;
    const pending = RawExchange.post(`${url}/predictions/mlp`, { inputs: 'a', stream: true });
    const job = await service.request(0);
    job.token(' one');
    const running = await pending;
    await running.chunk();
    await server.close();
    await expect(running.rest()).rejects.toThrow();
    await aborted(job.signal);
  });
});

describe('headers', () => {
  it('of CORS are on every response when configured', async () => {
    const { server, url } = await startServer({
      corsAllowedOrigin: '*',
      corsAllowedMethods: 'GET, POST, OPTIONS',
      corsAllowedHeaders: 'content-type',
    });
    const answers = [
      await fetch(`${url}/ping`),
      await fetch(`${url}/nothing`),
      await fetch(`${url}/v1/completions`, { method: 'OPTIONS' }),
      await fetch(`${url}/predictions/mlp`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"inputs": "a", "stream": true}',
      }),
    ];
    for (const { headers } of answers) {
      expect(headers.get('access-control-allow-origin')).toBe('*');
      expect(headers.get('access-control-allow-methods')).toBe('GET, POST, OPTIONS');
      expect(headers.get('access-control-allow-headers')).toBe('content-type');
    }
    await Promise.all(answers.map((answer) => answer.text()));
    await server.close();
  });

  it('name the request by the configured header, and by a new id when it is too long', async () => {
    const { server, url } = await startServer({ requestIdHeaderKey: 'X-Trace' });
    const ask = async (value: string) => {
      const response = await fetch(`${url}/ping`, { headers: { 'x-trace': value } });
      await response.text();
      return response.headers.get('x-request-id');
    };
    expect(await ask('t1')).toBe('t1');
    expect(await ask('t'.repeat(300))).toMatch(/^[0-9a-f-]{36}$/);
    await server.close();
  });
});
