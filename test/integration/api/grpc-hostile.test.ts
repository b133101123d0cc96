/** What clients of gRPC may send and not end the server by: halves of characters, messages of a million parts, calls that are never made. */
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterEach, describe, expect, it } from 'vitest';
import { protoFile } from '../../../proto/proto-file.js';
import { AccessControl } from '../../../server/access/access-control.js';
import { createGrpcServer, type GrpcServer } from '../../../server/grpc/grpc-server.js';
import { managementOf } from '../../support/http-fake-management.js';
import { FakeService } from '../../support/http-fixtures.js';

const MIB = 2 ** 20;
const SERVICE = '/inference.GRPCInferenceService';
const types = protobuf.loadSync(protoFile('open_inference.proto'));

const servers: GrpcServer[] = [];
const clients: { close(): void }[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(servers.splice(0).map((server) => server.close(0)));
});

async function start(maxMessageBytes = MIB) {
  const service = new FakeService();
  const keys = { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: null };
  const server = createGrpcServer({
    ...{ service, management: managementOf(service), access: new AccessControl(keys, () => {}) },
    ...{ version: '1', modelStore: '/models', maxMessageBytes, drainTimeoutMs: 1000, stallLimitMs: 60_000 },
    address: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
  });
  servers.push(server);
  const address = await server.listen();
  const client = new Client(address, credentials.createInsecure());
  clients.push(client);
  return { address, client, service };
}

const asIs = (bytes: Buffer): Buffer => bytes;
/** Code and words. */
const ask = (client: Client, method: string, bytes: Uint8Array): Promise<[number, string]> =>
  new Promise((resolve) => {
    client.makeUnaryRequest(
      ...([`${SERVICE}/${method}`, asIs, asIs, Buffer.from(bytes), new Metadata()] as const),
      (error: ServiceError | null) => resolve(error ? [error.code, error.details] : [status.OK, '']),
    );
  });
const encoded = (type: string, message: object): Uint8Array => {
  const found = types.lookupType(`inference.${type}`);
  return found.encode(found.fromObject(message)).finish();
};
/** A field of the number whose bytes are these. */
const field = (number: number, bytes: readonly number[]): number[] => [
  number * 8 + 2,
  bytes.length,
  ...bytes,
];

describe('a name', () => {
  it('of thousands of characters is told up to one of them', async () => {
    const { client } = await start();
    for (const before of ['', 'x']) {
      const [code, words] = await ask(
        client,
        'ModelReady',
        encoded('ModelReadyRequest', { name: before + '😀'.repeat(5000) }),
      );
      expect([code, words.startsWith(`Model not found: ${before}😀😀`)]).toEqual([status.NOT_FOUND, true]);
      expect(words.length).toBeLessThan(3000);
    }
  });

  it('that is half of a character is told as none', async () => {
    const { client } = await start();
    // UTF-8's form of a surrogate, which no text has.
    const half = [0x61, 0xed, 0xa0, 0xbd];
    for (const method of ['ModelReady', 'ModelInfer'])
      expect(await ask(client, method, Uint8Array.from(field(1, half)))).toEqual([
        status.NOT_FOUND,
        expect.stringMatching(/^Model not found: a\ufffd+$/),
      ]);
  });
});

describe('a message of many parts', () => {
  it.each([
    ['inputs', [5 * 8 + 2, 0]],
    ['outputs', [6 * 8 + 2, 0]],
    ['empty bytes', [7 * 8 + 2, 0]],
    ['parameters', [4 * 8 + 2, 2, 18, 0]],
  ])('is refused before they are made: %s', async (_, part) => {
    const { client } = await start();
    const bytes = Uint8Array.from({ length: 40_000 }, (_one, index) => part[index % part.length]!);
    expect(await ask(client, 'ModelInfer', bytes)).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringMatching(
        /^The message has 40000 bytes, but so many parts that it would take \d{7,} in memory/,
      ),
    ]);
  });

  it('that there is room for is answered', async () => {
    const { client } = await start();
    const text = {
      name: 'text_input',
      datatype: 'BYTES',
      shape: [1],
      contents: { bytesContents: [Buffer.from('x')] },
    };
    expect(
      await ask(client, 'ModelInfer', encoded('ModelInferRequest', { modelName: 'mlp', inputs: [text] })),
    ).toEqual([status.OK, '']);
  });
});

it('what streams have sent and are not answered counts over all of them, and no more when it is', async () => {
  const { client, service } = await start();
  service.words = null;
  const text = {
    name: 'text_input',
    datatype: 'BYTES',
    shape: [1],
    contents: { bytesContents: [Buffer.alloc(400_000, 'x')] },
  };
  const message = Buffer.from(encoded('ModelInferRequest', { modelName: 'mlp', inputs: [text] }));
  /** Resolves with what ends it, or its first answer. */
  const stream = (): Promise<number> =>
    new Promise((resolve) => {
      const call = client.makeBidiStreamRequest(`${SERVICE}/ModelStreamInfer`, asIs, asIs, new Metadata());
      call.on('error', ({ code }: ServiceError) => resolve(code));
      call.on('data', () => resolve(status.OK));
      call.write(message);
    });
  const first = stream();
  const jobs = [await service.request(0)];
  for (const at of [1, 2]) {
    void stream();
    jobs.push(await service.request(at));
  }
  expect(await stream()).toBe(status.RESOURCE_EXHAUSTED);
  jobs[0]!.finish('length');
  expect(await first).toBe(status.OK);
  void stream();
  (await service.request(3)).finish('length');
});

it('as many calls are open as may be, over all connections, and who is full is alive', async () => {
  const { address, client } = await start();
  const sessions: ClientHttp2Session[] = [];
  const open = (count: number): ClientHttp2Session => {
    const session = connect(`http://${address}`);
    session.on('error', () => {});
    clients.push({ close: () => session.destroy() });
    sessions.push(session);
    for (let call = 0; call < count; call++) {
      const headers = { ':method': 'POST', ':path': `${SERVICE}/ModelStreamInfer`, te: 'trailers' };
      session.request({ ...headers, 'content-type': 'application/grpc' }).on('error', () => {});
    }
    return session;
  };
  // The answer to a ping comes behind what was sent before it.
  const heard = (session: ClientHttp2Session) => new Promise((resolve) => session.ping(resolve));
  await heard(open(500));
  await heard(open(500));
  const ready = encoded('ModelReadyRequest', { name: 'mlp' });
  expect(await ask(client, 'ModelReady', ready)).toEqual([
    status.RESOURCE_EXHAUSTED,
    '1000 calls are running, as many as may be',
  ]);
  expect((await ask(client, 'ServerLive', new Uint8Array()))[0]).toBe(status.OK);
  const closed = once(sessions[0]!, 'close');
  sessions[0]!.destroy();
  await closed;
  await expect.poll(() => ask(client, 'ModelReady', ready)).toEqual([status.OK, '']);
});
