/**
 * What stands between boto3 and a container in SageMaker: takes signed calls of an endpoint, forwards their bodies to /invocations, or of
 * an endpoint of many models to /models/NAME/invoke, with the header of a session, and puts a streamed answer into AWS's event stream.
 *
 * Source  AWS "Event stream encoding" (prelude, headers, checksums); SageMaker runtime API: InvokeEndpoint, InvokeEndpointWithResponseStream
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { crc32 } from 'node:zlib';

const STRING = 7;
const SESSION = 'x-amzn-sagemaker-session-id';
const CLOSED = 'x-amzn-sagemaker-closed-session-id';
const MODEL = 'x-amzn-sagemaker-target-model';

export interface SagemakerStub {
  url: string;
  close(): void;
}

export async function startSagemakerStub(target: string): Promise<SagemakerStub> {
  const server: Server = createServer((request, response) => {
    void (async () => {
      const [, action] =
        /^\/endpoints\/[^/]+\/(invocations(?:-response-stream)?)$/.exec(request.url ?? '') ?? [];
      const isSigned = request.headers.authorization?.startsWith('AWS4-HMAC-SHA256') === true;
      if (action === undefined || !isSigned) {
        response.writeHead(action === undefined ? 404 : 403).end();
        return;
      }
      const { 'content-type': type, [SESSION]: session, [MODEL]: model } = request.headers;
      const path = typeof model === 'string' ? `/models/${encodeURIComponent(model)}/invoke` : '/invocations';
      const answer = await fetch(target + path, {
        method: 'POST',
        headers: {
          'content-type': type ?? 'application/json',
          ...(typeof session === 'string' && { [SESSION]: session }),
        },
        body: new Uint8Array(await buffer(request)),
      });
      if (action === 'invocations') {
        const contentType = answer.headers.get('content-type') ?? 'application/octet-stream';
        const [opened, closed] = [answer.headers.get(SESSION), answer.headers.get(CLOSED)];
        response.writeHead(answer.status, {
          'content-type': contentType,
          ...(opened !== null && { 'x-amzn-sagemaker-new-session-id': opened }),
          ...(closed !== null && { [CLOSED]: closed }),
        });
        response.end(Buffer.from(await answer.arrayBuffer()));
        return;
      }
      await sendEvents(answer, response);
    })().catch((error: unknown) => response.destroy(error as Error));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}

async function sendEvents(answer: Response, response: ServerResponse): Promise<void> {
  response.writeHead(answer.status, { 'content-type': 'application/vnd.amazon.eventstream' });
  for await (const bytes of answer.body ?? []) response.write(eventFrame(Buffer.from(bytes)));
  response.end();
}

/** A PayloadPart. */
function eventFrame(payload: Buffer): Buffer {
  const headers = Buffer.concat([
    header(':event-type', 'PayloadPart'),
    header(':content-type', 'application/octet-stream'),
    header(':message-type', 'event'),
  ]);
  const prelude = Buffer.alloc(8);
  prelude.writeUInt32BE(12 + headers.length + payload.length + 4, 0);
  prelude.writeUInt32BE(headers.length, 4);
  const start = Buffer.concat([prelude, checksum(prelude), headers, payload]);
  return Buffer.concat([start, checksum(start)]);
}

function header(name: string, value: string): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(value.length);
  return Buffer.concat([
    Buffer.of(name.length),
    Buffer.from(name),
    Buffer.of(STRING),
    length,
    Buffer.from(value),
  ]);
}

function checksum(bytes: Buffer): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(crc32(bytes));
  return out;
}
