/** TorchServe's API over a fake service: every gRPC call by who may make it, TLS of both transports, KServe's v1. The whole is e2e/torchserve. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { protoFile } from '../../../proto/proto-file.js';
import { AccessControl } from '../../../server/access/access-control.js';
import { TlsFiles } from '../../../server/access/tls-files.js';
import type { ListenAddress } from '../../../server/config/config.js';
import type { GrpcServer } from '../../../server/grpc/grpc-listener.js';
import { PROTO_OPTIONS } from '../../../server/grpc/oip-messages.js';
import { createTorchServeServers } from '../../../server/grpc/torchserve-servers.js';
import { torchServeDialects } from '../../../server/http/dialects/torchserve/torchserve-dialects.js';
import { grpcCallsOf } from '../../../server/torchserve/grpc-calls-of.js';
import { TORCHSERVE_SCOPES } from '../../support/access-table.js';
import { makeCertificate } from '../../support/certificates.js';
import { FakeManagement, pool } from '../../support/http-fake-management.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';
import { listenerWarnings } from '../../support/listener-warnings.js';
import { torchServeModelsOf } from '../../support/torchserve-parts.js';

type Stub = Client & Record<string, (...args: unknown[]) => unknown>;
interface Stream extends AsyncIterable<unknown> {
  write(message: object): void;
  end(): void;
}

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-ts-tls-'));
const at = (name: string) => path.join(folder, name);
const authority = makeCertificate('authority');
const own = makeCertificate('first', authority);
writeFileSync(at('cert.pem'), own.certificate);
writeFileSync(at('key.pem'), own.key, { mode: 0o600 });
const PEM = { certificateFile: at('cert.pem'), privateKeyFile: at('key.pem') };
const OPEN = { kind: 'tcp' as const, host: '127.0.0.1', port: 0, path: '' };
const NO_KEYS = { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: null };

const stubs: Stub[] = [];
const grpcServers: GrpcServer[] = [];
const httpServers: TestServer[] = [];
afterEach(async () => {
  for (const stub of stubs.splice(0)) stub.close();
  await Promise.all(
    [...grpcServers.splice(0), ...httpServers.splice(0).map(({ server }) => server)].map((one) =>
      one.close(),
    ),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(access = new AccessControl(NO_KEYS, () => {}), tls: TlsFiles | null = null) {
  const management = new FakeManagement();
  management.pools.push(pool('mlp', { version: '1.0', isDefault: true }));
  const models = torchServeModelsOf(management);
  const address: ListenAddress = tls === null ? OPEN : { ...OPEN, tls: true };
  const http = await startServer(
    { inferenceAddress: address, managementAddress: address },
    'mlp',
    { management, ...(tls && { tls }) },
    torchServeDialects(models),
  );
  http.service.statuses = [{ ...http.service.statuses[0]!, version: '1.0' }];
  httpServers.push(http);
  const told: Record<string, unknown>[] = [];
  const listener = { address, maxAgeMs: null, graceMs: null };
  const servers = createTorchServeServers({
    ...{ access, management, service: http.service, version: '1', modelStore: '/models', tls },
    ...{ maxMessageBytes: 65_536, drainTimeoutMs: 1000, stallLimitMs: 60_000 },
    audit: (facts) => told.push(facts),
    calls: grpcCallsOf(http.server.context, models),
    ...{ inferenceAt: listener, managementAt: listener },
  });
  grpcServers.push(...servers);
  const [inference, managed] = await Promise.all(servers.map((server) => server.listen()));
  return { http, told, addresses: { inference: inference!, management: managed! } };
}

const SERVICES = {
  inference: ['torchserve_inference.proto', 'org.pytorch.serve.grpc.inference.InferenceAPIsService'],
  management: ['torchserve_management.proto', 'org.pytorch.serve.grpc.management.ManagementAPIsService'],
} as const;
type Side = keyof typeof SERVICES;

function stubOf(side: Side, address: string, by = credentials.createInsecure()): Stub {
  const [file, name] = SERVICES[side];
  const definition = loadPackageDefinition(loadSync(protoFile(file), PROTO_OPTIONS));
  const Service = name.split('.').reduce<unknown>((in_, part) => (in_ as never)[part], definition);
  const stub = new (Service as new (...args: unknown[]) => Stub)(address, by);
  stubs.push(stub);
  return stub;
}

const methodsOf = (side: Side) =>
  loadSync(protoFile(SERVICES[side][0]), PROTO_OPTIONS)[SERVICES[side][1]] as unknown as Record<
    string,
    { requestStream: boolean; responseStream: boolean }
  >;

/** Its status. */
async function codeOf(side: Side, stub: Stub, method: string, message: object, key: string | null) {
  const metadata = new Metadata();
  if (key !== null) metadata.set('authorization', `Bearer ${key}`);
  const { requestStream, responseStream } = methodsOf(side)[method]!;
  if (!requestStream && !responseStream) {
    return new Promise<number>((resolve) => {
      stub[method]!(message, metadata, (error: ServiceError | null) => resolve(error?.code ?? status.OK));
    });
  }
  const stream = (requestStream ? stub[method]!(metadata) : stub[method]!(message, metadata)) as Stream;
  if (requestStream) {
    stream.write(message);
    stream.end();
  }
  try {
    for await (const _ of stream);
    return status.OK;
  } catch (error) {
    return (error as ServiceError).code;
  }
}

describe("who may make TorchServe's gRPC calls", () => {
  const asked = { model_name: 'mlp', input: { data: Buffer.from('once') } };
  /** Every call of both services; a new one without a line fails. What the right key gets. */
  const CALLS: Readonly<Record<Side, Readonly<Record<string, readonly [message: object, code: number]>>>> = {
    inference: {
      Ping: [{}, status.OK],
      Predictions: [asked, status.OK],
      StreamPredictions: [asked, status.OK],
      StreamPredictions2: [asked, status.OK],
    },
    management: {
      DescribeModel: [{ model_name: 'mlp' }, status.OK],
      ListModels: [{}, status.OK],
      RegisterModel: [{ url: '../x.mar' }, status.NOT_FOUND],
      ScaleWorker: [{ model_name: 'mlp', min_worker: 1 }, status.OK],
      SetDefault: [{ model_name: 'mlp', model_version: '1.0' }, status.OK],
      UnregisterModel: [{ model_name: 'mlp' }, status.OK],
    },
  };
  const rows = (['inference', 'management'] as const).flatMap((side) =>
    Object.entries(CALLS[side]).map(([method, row]) => [method, side, ...row] as const),
  );

  it('is said of every one', () => {
    for (const side of ['inference', 'management'] as const)
      for (const lines of [CALLS[side], TORCHSERVE_SCOPES[side]])
        expect(Object.keys(lines).sort()).toEqual(Object.keys(methodsOf(side)).sort());
  });

  it.each(rows)('%s of %s', async (method, side, message, right) => {
    const access = new AccessControl({ ...NO_KEYS, apiKey: 'infer-key', managementKey: 'all-key' }, () => {});
    const { addresses, http, told } = await start(access);
    const stub = stubOf(side, addresses[side]);
    const with_ = (key: string | null) => codeOf(side, stub, method, message, key);
    const refused = status.PERMISSION_DENIED;
    const isManaged = TORCHSERVE_SCOPES[side][method] === 'manage';
    expect(await with_(null), 'without a key').toBe(refused);
    expect(await with_('wrong'), 'with an unknown key').toBe(refused);
    expect(http.service.submitted).toEqual([]);
    expect(await with_('infer-key'), 'with a key to infer').toBe(isManaged ? refused : right);
    expect(await with_('all-key'), 'with a key for all').toBe(right);
    const changes = /Register|Scale|SetDefault|Unregister/.test(method);
    expect(told.map(({ key }) => key)).toEqual(changes ? [null, null, 'api_key', 'management_key'] : []);
  });
});

it('a list of texts by gRPC is answered without a word on standard error', async () => {
  const { addresses, http } = await start();
  const stub = stubOf('inference', addresses.inference);
  const inputs = Array.from({ length: 32 }, (_, index) => `text ${index}`);
  const message = { model_name: 'mlp', input: { data: Buffer.from(JSON.stringify({ inputs })) } };
  const warnings = await listenerWarnings(async () => {
    expect(await codeOf('inference', stub, 'Predictions', message, null)).toBe(status.OK);
  });
  expect([http.service.submitted.length, warnings]).toEqual([32, []]);
});

it('a name that is half of a character, or thousands of them, is an error of its call and nothing else', async () => {
  const { addresses } = await start();
  const message = { model_name: `x${'😀'.repeat(5000)}`, input: { data: Buffer.from('once') } };
  const stub = stubOf('inference', addresses.inference);
  expect(await codeOf('inference', stub, 'Predictions', message, null)).toBe(status.INTERNAL);
  expect(await codeOf('inference', stub, 'StreamPredictions', message, null)).toBe(status.INTERNAL);
  const managed = stubOf('management', addresses.management);
  expect(await codeOf('management', managed, 'DescribeModel', message, null)).toBe(status.NOT_FOUND);
});

describe('TorchServe by TLS', () => {
  it('answers HTTP and both gRPC services by certificate, and nobody in clear', async () => {
    const tls = new TlsFiles({ ...PEM, keystore: null, keystorePass: '', clientCaFile: null }, () => {});
    const { addresses, http } = await start(undefined, tls);
    const ping = new Promise<number>((resolve, reject) => {
      httpsRequest(`${http.url}/ping`, { ca: authority.certificate, agent: false }, (response) => {
        response.resume();
        response.once('end', () => resolve(response.statusCode!));
      })
        .once('error', reject)
        .end();
    });
    expect(await ping).toBe(200);
    await expect(fetch(`${http.url.replace('https', 'http')}/ping`)).rejects.toThrow();
    const secure = credentials.createSsl(Buffer.from(authority.certificate));
    const asked = { model_name: 'mlp', input: { data: Buffer.from('once') } };
    const code = (side: Side, method: string, by: ReturnType<typeof credentials.createSsl>) =>
      codeOf(side, stubOf(side, addresses[side], by), method, method === 'ListModels' ? {} : asked, null);
    expect(await code('inference', 'Predictions', secure)).toBe(status.OK);
    expect(await code('inference', 'StreamPredictions', secure)).toBe(status.OK);
    expect(await code('management', 'ListModels', secure)).toBe(status.OK);
    expect(await code('inference', 'Predictions', credentials.createInsecure())).toBe(status.UNAVAILABLE);
    expect(await code('management', 'ListModels', credentials.createInsecure())).toBe(status.UNAVAILABLE);
  });
});

describe("KServe's v1", () => {
  it('predicts and explains each instance, and refuses what has none', async () => {
    const { http } = await start();
    http.service.statuses = [{ ...http.service.statuses[0]!, task: 'text-embedding' }];
    const ask = async (verb: string, body: object) => {
      const { status: code, text } = await postJson(`${http.url}/v1/models/mlp:${verb}`, body);
      return [code, JSON.parse(text)] as const;
    };
    http.service.statuses = [{ ...http.service.statuses[0]!, task: 'text-generation' }];
    expect(await ask('predict', { instances: ['a', { data: 'b' }] })).toEqual([
      200,
      { predictions: [' w1 w2 w3', ' w1 w2 w3'] },
    ]);
    expect(await ask('explain', { instances: [] })).toMatchObject([
      400,
      { message: expect.stringContaining('instances') },
    ]);
    expect((await ask('nothing', { instances: ['a'] }))[0]).toBe(404);
    http.service.statuses = [{ ...http.service.statuses[0]!, task: 'text-embedding' }];
    expect(await ask('explain', { instances: ['a'] })).toMatchObject([
      400,
      { message: 'Model mlp makes vectors: there is no one number to explain' },
    ]);
  });
});
