/**
 * Clients that leave, each by the means of its transport, at a server with one slot: whoever waits gets it at the next step. By events
 * alone: the slot's own line, and the answer of the next request, which cannot begin before.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { credentials, loadPackageDefinition, type ServiceError, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { protoFile } from '../../proto/proto-file.js';
import { PROTO_OPTIONS } from '../../server/grpc/oip-messages.js';
import { makeCertificate } from '../support/certificates.js';
import { ServerProcess } from '../support/server-process.js';

const LONG = 450;
const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-cancel-'));
const authority = makeCertificate('authority');
const own = makeCertificate('server', authority);
writeFileSync(path.join(folder, 'cert.pem'), own.certificate);
writeFileSync(path.join(folder, 'key.pem'), own.key, { mode: 0o600 });
const ca = authority.certificate;

/** What grpc-js makes at run time. */
interface Stub {
  // biome-ignore lint/suspicious/noExplicitAny: its calls come out of the .proto
  ModelStreamInfer(options: object): any;
  close(): void;
}

let server: ServerProcess;
let session: ClientHttp2Session;
beforeAll(async () => {
  server = await ServerProcess.start({
    ...{ TENSOR_PARALLEL_DEGREE: '1', OPTION_MAX_ROLLING_BATCH_SIZE: '1' },
    ...{
      SERVING_INFERENCE_ADDRESS: 'https://127.0.0.1:0',
      SERVING_MANAGEMENT_ADDRESS: 'https://127.0.0.1:0',
    },
    ...{ SERVING_CERTIFICATE_FILE: path.join(folder, 'cert.pem') },
    ...{ SERVING_PRIVATE_KEY_FILE: path.join(folder, 'key.pem') },
    SERVING_GRPC_ADDRESS: 'https://127.0.0.1:0',
  });
  session = connect(server.url, { ca });
});
afterAll(async () => {
  session?.destroy();
  await server?.stop();
  rmSync(folder, { recursive: true });
});

const BODY = {
  inputs: 'Once upon a time',
  parameters: { max_new_tokens: LONG, ignore_eos_token: true, do_sample: false },
  stream: true,
};

/** Waits in the queue, and is answered as soon as there is a slot. */
function next(): Promise<number> {
  const stream = session.request({
    ...{ ':method': 'POST', ':path': '/predictions/embedded', 'content-type': 'application/json' },
  });
  stream.end(JSON.stringify({ inputs: 'A king', parameters: { max_new_tokens: 3, ignore_eos_token: true } }));
  stream.resume();
  return once(stream, 'response').then(([headers]) => (headers as Record<string, number>)[':status']!);
}

/** Leaves when the first token is there and another request waits for the only slot. */
async function leaves(first: Promise<unknown>, leave: () => void, from: number): Promise<void> {
  await first;
  const waiting = next();
  leave();
  const freed = await server.line(({ msg, why }) => msg === 'slot freed' && why === 'cancelled', from);
  expect(freed.newTokens).toBeLessThan(LONG);
  expect(await waiting).toBe(200);
  // Had the first ended by itself, there would be such a line of its before the next one's.
  await server.line(({ msg, why }) => msg === 'slot freed' && why === 'finished', from);
  const ends = server.lines.slice(from).filter(({ msg }) => msg === 'slot freed');
  expect(ends.map(({ why }) => why)).toEqual(['cancelled', 'finished']);
}

it('a closed socket of HTTP/1 frees the slot at the next step', async () => {
  const from = server.lines.length;
  const request = httpsRequest(`${server.url}/predictions/embedded`, {
    ...{ method: 'POST', ca, agent: false, headers: { 'content-type': 'application/json' } },
  });
  request.on('error', () => {});
  request.end(JSON.stringify(BODY));
  const first = once(request, 'response').then(([response]) => once(response, 'data'));
  await leaves(first, () => request.destroy(), from);
});

it('a reset of HTTP/2 frees the slot at the next step, and its connection goes on', async () => {
  const from = server.lines.length;
  const stream = session.request({
    ...{ ':method': 'POST', ':path': '/predictions/embedded', 'content-type': 'application/json' },
  });
  stream.end(JSON.stringify(BODY));
  await leaves(once(stream, 'data'), () => stream.close(constants.NGHTTP2_CANCEL), from);
});

it('a deadline of gRPC frees the slot at the next step', async () => {
  const from = server.lines.length;
  const { address } = await server.line(({ msg }) => String(msg).includes('served by gRPC'), 0);
  const definition = loadPackageDefinition(loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS));
  const { GRPCInferenceService: Service } = definition.inference as never as Record<
    string,
    new (
      ...args: unknown[]
    ) => Stub
  >;
  const stub = new Service!(String(address), credentials.createSsl(Buffer.from(ca)));
  const text = Buffer.from('Once upon a time');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  // Long enough for the first token, and far too short for all of them.
  const stream = stub.ModelStreamInfer({ deadline: Date.now() + 1000 });
  const failed = new Promise<ServiceError>((resolve) => stream.once('error', resolve));
  const first = once(stream, 'data');
  stream.write({
    model_name: 'embedded',
    inputs: [
      { name: 'text_input', datatype: 'BYTES', shape: [1] },
      { name: 'stream', datatype: 'BOOL', shape: [1] },
    ],
    raw_input_contents: [Buffer.concat([length, text]), Buffer.of(1)],
    parameters: {
      max_tokens: { int64_param: String(LONG) },
      ignore_eos: { bool_param: true },
    },
  });
  await leaves(first, () => {}, from);
  expect((await failed).code).toBe(status.DEADLINE_EXCEEDED);
  stub.close();
});
