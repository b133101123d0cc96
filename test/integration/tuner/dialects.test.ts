/** The load generator's dialects ask the product's own transports: what each says of an answer, a stream, a refusal and a deadline. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { AccessControl } from '../../../server/access/access-control.js';
import { createGrpcServer, type GrpcServer } from '../../../server/grpc/grpc-server.js';
import type { Dialect, Payload } from '../../../tuner/dialects/dialect.js';
import { DjlDialect } from '../../../tuner/dialects/djl.js';
import { OipGrpcDialect } from '../../../tuner/dialects/oip-grpc.js';
import { OpenAiDialect } from '../../../tuner/dialects/openai.js';
import { managementOf } from '../../support/http-fake-management.js';
import { aborted, FakeService, startServer, type TestServer } from '../../support/http-fixtures.js';

const TEXT: Payload = { kind: 'text', prompt: 'Once upon a time', promptTokens: 4, maxNewTokens: 3 };
const NEVER = new AbortController().signal;
const dialects: Dialect[] = [];
const grpcServers: GrpcServer[] = [];
const servers: TestServer[] = [];
const plain: Server[] = [];
afterEach(async () => {
  for (const dialect of dialects.splice(0)) dialect.close();
  await Promise.all(servers.splice(0).map(({ server }) => server.close()));
  await Promise.all(grpcServers.splice(0).map((server) => server.close()));
  for (const server of plain.splice(0)) server.close();
});

const keep = <D extends Dialect>(dialect: D): D => {
  dialects.push(dialect);
  return dialect;
};
const options = (url: string, stream: boolean) => ({
  ...{ url, model: 'mlp', stream, headers: {}, parameters: {} },
});

async function grpcAddress(service: FakeService): Promise<string> {
  const server = createGrpcServer({
    address: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
    service,
    management: managementOf(service),
    access: new AccessControl(
      { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: null },
      () => {},
    ),
    version: '1.2.3',
    modelStore: '/models',
    maxMessageBytes: 64 * 1024,
    drainTimeoutMs: 1000,
    stallLimitMs: 60_000,
  });
  grpcServers.push(server);
  return server.listen();
}

const kinds = ['djl', 'openai', 'grpc'] as const;
async function dialectOf(kind: (typeof kinds)[number], stream: boolean): Promise<[Dialect, FakeService]> {
  if (kind === 'grpc') {
    const service = new FakeService();
    service.words = 5;
    const address = await grpcAddress(service);
    return [
      keep(new OipGrpcDialect({ address, model: 'mlp', stream, headers: {}, parameters: {} })),
      service,
    ];
  }
  const server = await startServer();
  const { service, url } = server;
  servers.push(server);
  service.words = 5;
  const given = options(url, stream);
  return [
    keep(kind === 'djl' ? new DjlDialect(given) : new OpenAiDialect({ ...given, chat: false })),
    service,
  ];
}

describe.each(kinds)('%s', (kind) => {
  it('counts the tokens of a stream and when each came', async () => {
    const [dialect] = await dialectOf(kind, true);
    const answer = await dialect.ask(TEXT, NEVER);
    expect(answer).toMatchObject({ error: null, tokensOut: 3 });
    expect(answer.tokenTimesMs).toHaveLength(3);
    expect([...answer.tokenTimesMs].sort((a, b) => a - b)).toEqual(answer.tokenTimesMs);
    if (kind === 'openai') expect(answer.tokensIn).toBe(4);
  });

  it('takes an answer at once, with its tokens', async () => {
    const [dialect] = await dialectOf(kind, false);
    const answer = await dialect.ask(TEXT, NEVER);
    expect(answer).toMatchObject({ error: null, tokensOut: 3 });
    expect(answer.tokenTimesMs).toHaveLength(1);
  });

  it('gives the code of a refusal, and goes on', async () => {
    const [dialect, service] = await dialectOf(kind, true);
    service.refuseWith = new ServingError('QUEUE_FULL', 'Queue of 2 jobs is full');
    const { error, tokenTimesMs } = await dialect.ask(TEXT, NEVER);
    expect(error).toBe({ djl: 'HTTP_503', openai: 'HTTP_429', grpc: 'STREAM_ERROR' }[kind]);
    expect(tokenTimesMs).toEqual([]);
    service.refuseWith = null;
    expect((await dialect.ask(TEXT, NEVER)).error).toBe(null);
  });

  it("hangs up at the load's deadline, and the server's request is cancelled", async () => {
    const [dialect, service] = await dialectOf(kind, true);
    service.words = null;
    const limit = new AbortController();
    const asked = dialect.ask(TEXT, limit.signal);
    const job = await service.request(0);
    job.token(' one');
    limit.abort('CLIENT_TIMEOUT');
    expect((await asked).error).toBe('CLIENT_TIMEOUT');
    await aborted(job.signal);
  });
});

it('a server that is not there, and one that cuts its answer, are errors with a name', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/jsonlines', 'content-length': '100' });
    response.write('{"token": {"id": 1}}\n', () => response.destroy());
  });
  plain.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const cut = keep(new DjlDialect(options(`http://127.0.0.1:${port}`, true)));
  expect((await cut.ask(TEXT, NEVER)).error).toBe('ANSWER_CUT');
  await new Promise((resolve) => server.close(resolve));
  expect((await cut.ask(TEXT, NEVER)).error).toBe('ECONNREFUSED');
});

/** Answers the first request of each connection, or none. */
async function closingServer(answersFirst: boolean): Promise<{ url: string; connections: () => number }> {
  const seen = new WeakSet<object>();
  let connections = 0;
  const server = createServer((request, response) => {
    if (!answersFirst || seen.has(request.socket)) request.socket.destroy();
    else response.end('{"generated_text": "a"}');
    seen.add(request.socket);
  });
  server.on('connection', () => connections++);
  plain.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
  };
}

describe('a server that closes connections', () => {
  it('after an answer, unseen by a client that keeps it: the request is sent again', async () => {
    const { connections, url } = await closingServer(true);
    const dialect = keep(new DjlDialect(options(url, false)));
    for (let turn = 0; turn < 3; turn++)
      expect(await dialect.ask(TEXT, NEVER)).toMatchObject({ error: null });
    expect(connections()).toBe(3);
  });

  it('without an answer: that is its failure', async () => {
    const { connections, url } = await closingServer(false);
    const dialect = keep(new DjlDialect(options(url, false)));
    expect(await dialect.ask(TEXT, NEVER)).toMatchObject({ error: 'ECONNRESET' });
    expect(connections()).toBe(1);
  });
});
