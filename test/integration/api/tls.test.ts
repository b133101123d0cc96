/** https:// addresses, HTTP and gRPC: the certificate of the moment, clients' certificates, files that are wrong. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
} from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { credentials, loadPackageDefinition, type ServiceError, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { protoFile } from '../../../proto/proto-file.js';
import { AccessControl } from '../../../server/access/access-control.js';
import { TlsFiles, type TlsOptions } from '../../../server/access/tls-files.js';
import { createGrpcServer, type GrpcServer } from '../../../server/grpc/grpc-server.js';
import { PROTO_OPTIONS } from '../../../server/grpc/oip-messages.js';
import { keystoreOf, makeCertificate, type TestCertificate } from '../../support/certificates.js';
import { managementOf } from '../../support/http-fake-management.js';
import { aborted, FakeService, startServer, type TestServer } from '../../support/http-fixtures.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-tls-'));
const authority = makeCertificate('authority');
const stranger = makeCertificate('stranger');
const [first, second, client] = ['first', 'second', 'client'].map((name) =>
  makeCertificate(name, authority),
) as [TestCertificate, TestCertificate, TestCertificate];
const at = (name: string) => path.join(folder, name);
const address = { kind: 'tcp' as const, host: '127.0.0.1', port: 0, path: '', tls: true as const };
const addresses = { inferenceAddress: address, managementAddress: address };
const NO_FILES: TlsOptions = {
  certificateFile: null,
  privateKeyFile: null,
  keystore: null,
  keystorePass: 'changeit',
  clientCaFile: null,
};
const PEM = { certificateFile: at('cert.pem'), privateKeyFile: at('key.pem') };

writeFileSync(at('ca.pem'), authority.certificate);
put(first);

function put({ certificate, key }: TestCertificate, mode = 0o600): void {
  rmSync(at('key.pem'), { force: true });
  writeFileSync(at('cert.pem'), certificate);
  writeFileSync(at('key.pem'), key, { mode });
}

const servers: (TestServer | { server: GrpcServer })[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map(({ server }) => server.close()));
  put(first);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(config: Parameters<typeof startServer>[0], tls?: TlsFiles): Promise<TestServer> {
  const server = await startServer({ ...addresses, ...config }, 'mlp', tls ? { tls } : {});
  servers.push(server);
  return server;
}

/** Status, and who answered. */
function ask(
  url: string,
  as: TestCertificate | null = null,
  agent?: Agent,
): Promise<{ status: number; name: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      `${url}/ping`,
      {
        ca: authority.certificate,
        ...(as && { cert: as.certificate, key: as.key }),
        agent: agent ?? false,
      },
      (response) => {
        const peer = (response.socket as TLSSocket).getPeerCertificate() as PeerCertificate;
        response.resume();
        response.once('end', () => resolve({ status: response.statusCode!, name: String(peer.subject.CN) }));
      },
    );
    request.once('error', reject);
    request.end();
  });
}

describe('HTTP on an https:// address', () => {
  it('answers by TLS, and plain HTTP not at all', async () => {
    const { url } = await start(PEM);
    expect(url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    expect(await ask(url)).toEqual({ status: 200, name: 'first' });
    await expect(fetch(url.replace('https', 'http'))).rejects.toThrow();
  });

  it('shows a new certificate from the change of the files on, and keeps connections', async () => {
    const tls = new TlsFiles({ ...NO_FILES, ...PEM }, () => {});
    const { url } = await start(PEM, tls);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    expect(await ask(url, null, agent)).toEqual({ status: 200, name: 'first' });
    put(second);
    tls.refresh();
    expect(await ask(url)).toEqual({ status: 200, name: 'second' });
    expect((await ask(url, null, agent)).status).toBe(200);
    agent.destroy();
  });

  it('keeps the certificate of before where the new files are wrong, and tells once', async () => {
    const told: string[] = [];
    const tls = new TlsFiles({ ...NO_FILES, ...PEM }, (sentence) => told.push(sentence));
    const { url } = await start(PEM, tls);
    put({ ...second, key: first.key });
    tls.refresh();
    tls.refresh();
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(/cannot be used .*; the certificate of before stays in use/);
    expect(await ask(url)).toEqual({ status: 200, name: 'first' });
    put(second, 0o644);
    tls.refresh();
    expect(told[1]).toMatch(/may be read or written by others \(mode 644\)/);
    put(second);
    tls.refresh();
    expect((await ask(url)).name).toBe('second');
  });

  it('takes a PKCS#12 keystore with its password', async () => {
    writeFileSync(at('store.p12'), keystoreOf(second, 'of-the-store'), { mode: 0o600 });
    const { url } = await start({ keystore: at('store.p12'), keystorePass: 'of-the-store' });
    expect(await ask(url)).toEqual({ status: 200, name: 'second' });
    await expect(start({ keystore: at('store.p12'), keystorePass: 'canary' })).rejects.toThrow(
      /^keystore: .*: it must be PKCS#12, and keystore_pass its password$/,
    );
  });

  it('speaks to nobody without a certificate of client_ca_file', async () => {
    const { url } = await start({ ...PEM, clientCaFile: at('ca.pem') });
    expect((await ask(url, client)).status).toBe(200);
    await expect(ask(url)).rejects.toThrow();
    await expect(ask(url, stranger)).rejects.toThrow();
  });

  it('may be open to other machines without keys where clients need certificates, and not otherwise', async () => {
    const everywhere = { ...address, host: '0.0.0.0' };
    const open = { inferenceAddress: everywhere, managementAddress: everywhere };
    await expect(start({ ...PEM, ...open })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await start({ ...PEM, ...open, clientCaFile: at('ca.pem') });
  });

  it('gives up on who does not shake hands, and goes on', async () => {
    const { url } = await start(PEM);
    const silent = connect({ host: '127.0.0.1', port: Number(new URL(url).port), ca: authority.certificate });
    silent.on('error', () => {});
    silent.destroy();
    expect((await ask(url)).status).toBe(200);
  });
});

describe.each([
  ['no files', {}, 'needs certificate_file and private_key_file, or keystore'],
  ['a certificate that is not there', { ...PEM, certificateFile: at('none.pem') }, 'cannot be read (ENOENT)'],
  ['a folder', { ...PEM, certificateFile: folder }, 'is not a file'],
  ['a key that is none', { ...PEM, privateKeyFile: at('cert.pem') }, 'may be read or written by others'],
])('%s', (_what, options, sentence) => {
  it('refuses a start, without a byte of the files', async () => {
    const starting = start(options);
    await expect(starting).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(starting).rejects.toThrow(sentence);
    await expect(starting).rejects.not.toThrow('BEGIN');
  });
});

describe('HTTP/2 on an https:// address', () => {
  const BODY = JSON.stringify({ inputs: 'a', stream: true });
  const open = (url: string) => connectHttp2(url, { ca: authority.certificate });
  const post = (session: ClientHttp2Session, path: string, body: string, headers: object = {}) => {
    const stream = session.request({
      ...{ ':method': 'POST', ':path': path, 'content-type': 'application/json', ...headers },
    });
    stream.end(body);
    return stream;
  };
  const answerOf = async (stream: ClientHttp2Stream) => {
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
    let text = '';
    for await (const piece of stream) text += String(piece);
    return { headers, text };
  };

  it('is chosen by who offers it, whole and streamed answers side by side on one connection', async () => {
    const { logs, service, url } = await start(PEM);
    const session = open(url);
    const answers = await Promise.all(
      [BODY, JSON.stringify({ inputs: 'a' }), '{'].map((body) =>
        answerOf(post(session, '/predictions/mlp', body)),
      ),
    );
    expect(answers.map(({ headers }) => headers[':status'])).toEqual([200, 200, 400]);
    expect(answers[0]!.text.trim().split('\n')).toHaveLength(3);
    expect(JSON.parse(answers[1]!.text)).toEqual({ generated_text: ' w1 w2 w3' });
    expect(answers.every(({ headers }) => headers['x-request-id'] !== undefined)).toBe(true);
    // An error ends its stream, not the connection that others are on.
    expect(answers[2]!.headers.connection).toBeUndefined();
    expect((await answerOf(post(session, '/predictions/mlp', BODY))).headers[':status']).toBe(200);
    expect(service.submitted).toHaveLength(3);
    expect(await ask(url)).toEqual({ status: 200, name: 'first' });
    expect(logs.filter(({ msg }) => msg === 'access')).toHaveLength(5);
    session.close();
  });

  it('ends the job of a stream that its client resets, and of one whose connection is cut', async () => {
    const { service, url } = await start(PEM);
    service.words = null;
    const session = open(url);
    const streams = [0, 1].map(() =>
      post(session, '/v1/completions', JSON.stringify({ prompt: 'a', stream: true })),
    );
    const jobs = await Promise.all([0, 1].map((index) => service.request(index)));
    for (const job of jobs) job.token(' one');
    await Promise.all(streams.map((stream) => once(stream, 'data')));
    streams[0]!.close(constants.NGHTTP2_CANCEL);
    const [first_, second_] = jobs;
    const reset = await Promise.race(jobs.map((job) => aborted(job.signal).then(() => job)));
    const other = reset === first_ ? second_! : first_!;
    expect(other.signal.aborted).toBe(false);
    session.destroy();
    await aborted(other.signal);
  });

  it('drops a reader that leaves its answer no room', async () => {
    const { logged, url } = await start({ ...PEM, chunkedReadTimeoutSeconds: 1 });
    const session = connectHttp2(url, { ca: authority.certificate, settings: { initialWindowSize: 0 } });
    post(session, '/predictions/mlp', JSON.stringify({ inputs: 'a' })).on('error', () => {});
    await logged(({ msg }) => msg === 'dropped a reader that does not take its answer');
    session.destroy();
  });

  it('knows the host by its authority, bounds bodies without a length, and ends with the server', async () => {
    const { server, url } = await start({ ...PEM, maxRequestBytes: 100_000 });
    const session = open(url);
    const rebound = post(session, '/predictions/mlp', BODY, { ':authority': 'rebound.test' });
    expect((await answerOf(rebound)).headers[':status']).toBe(403);
    const long = post(session, '/predictions/mlp', JSON.stringify({ inputs: 'x'.repeat(150_000) }));
    long.on('error', () => {});
    expect(((await once(long, 'response')) as [Record<string, unknown>])[0][':status']).toBe(413);
    const closed = once(session, 'close');
    await server.close();
    await closed;
  });
});

describe('gRPC on an https:// address', () => {
  async function startGrpc(options: Partial<TlsOptions>) {
    const service = new FakeService();
    const tls = new TlsFiles({ ...NO_FILES, ...options }, () => {});
    const access = new AccessControl(
      { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: null },
      () => {},
    );
    const server = createGrpcServer({
      ...{ address, tls, service, access, management: managementOf(service) },
      ...{ version: '1', modelStore: '/models', maxMessageBytes: 65_536, drainTimeoutMs: 1000 },
      stallLimitMs: 60_000,
    });
    servers.push({ server });
    return { tls, address: await server.listen() };
  }

  /** null: it answers; else the status. */
  function live(to: string, by: TestCertificate | null, ca = authority): Promise<number | null> {
    const definition = loadPackageDefinition(loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS));
    const { GRPCInferenceService: Service } = definition.inference as never as Record<
      string,
      new (
        ...args: unknown[]
      ) => {
        ServerLive: (message: object, options: object, done: (error: ServiceError | null) => void) => void;
        close(): void;
      }
    >;
    const own = by && { cert: Buffer.from(by.certificate), key: Buffer.from(by.key) };
    const stub = new Service!(
      to,
      credentials.createSsl(Buffer.from(ca.certificate), own?.key ?? null, own?.cert ?? null),
    );
    return new Promise((resolve) => {
      stub.ServerLive({}, { deadline: Date.now() + 5000 }, (error) => {
        stub.close();
        resolve(error?.code ?? null);
      });
    });
  }

  /** Whose certificate a new connection is shown. */
  function shown(to: string): Promise<string> {
    const [host, port] = to.split(':');
    return new Promise((resolve, reject) => {
      const socket = connect(
        { host: host!, port: Number(port), ca: authority.certificate, ALPNProtocols: ['h2'] },
        () => {
          resolve(new X509Certificate(socket.getPeerCertificate().raw).subject);
          socket.destroy();
        },
      );
      socket.once('error', reject);
    });
  }

  it('answers by TLS, and shows a new certificate from the change of the files on', async () => {
    const { address: to, tls } = await startGrpc(PEM);
    expect(await live(to, null)).toBeNull();
    expect(await shown(to)).toBe('CN=first');
    put(second);
    tls.refresh();
    expect(await shown(to)).toBe('CN=second');
    expect(await live(to, null)).toBeNull();
    expect(await live(to, null, stranger)).toBe(status.UNAVAILABLE);
  });

  it('asks clients for a certificate where they need one', async () => {
    const { address: to } = await startGrpc({ ...PEM, clientCaFile: at('ca.pem') });
    expect(await live(to, client)).toBeNull();
    expect(await live(to, null)).toBe(status.UNAVAILABLE);
    expect(await live(to, stranger)).toBe(status.UNAVAILABLE);
  });
});
