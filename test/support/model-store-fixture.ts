/** Folders, a policy and loopback servers for the tests of the model store. */
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ErrorCode } from '../../proto/errors.js';
import { ServingError } from '../../proto/errors.js';
import {
  type FetchedModel,
  type FetchOptions,
  type FetchPolicy,
  fetchModel,
} from '../../server/model-store/fetch-model.js';

export interface Store {
  scratch: string;
  downloadFolder: string;
  policy: FetchPolicy;
  fetch(url: string, options?: Partial<FetchOptions>): Promise<FetchedModel>;
  /** Everything in the download folder, at any depth, but what it remembers of URLs and users. */
  left(): string[];
  remove(): void;
}

export function openStore(policy: Partial<FetchPolicy> = {}): Store {
  const scratch = mkdtempSync(path.join(tmpdir(), 'model-store-'));
  const downloadFolder = path.join(scratch, 'downloads');
  const modelStore = path.join(scratch, 'models');
  mkdirSync(modelStore);
  const whole: FetchPolicy = {
    allowedHosts: [],
    maxDownloadBytes: 64 << 20,
    maxUnpackedBytes: 64 << 20,
    maxEntries: 100,
    maxCompressionRatio: 200,
    hubEndpoint: 'http://127.0.0.1:9',
    hubToken: null,
    s3Endpoint: null,
    offline: false,
    maxCacheBytes: 1 << 30,
    modelStore,
    ...policy,
  };
  return {
    scratch,
    downloadFolder,
    policy: whole,
    fetch: (url, options = {}) => fetchModel({ url, downloadFolder, policy: whole, ...options }),
    left: () =>
      existsSync(downloadFolder)
        ? readdirSync(downloadFolder, { recursive: true, encoding: 'utf8' })
            .filter((name) => !/^\.(?:ref|use)-/.test(name))
            .sort()
        : [],
    remove: () => rmSync(scratch, { recursive: true, force: true }),
  };
}

/** The ServingError that a promise ends with. */
export async function failureOf(promise: Promise<unknown>): Promise<ServingError> {
  const outcome = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(outcome instanceof ServingError)) throw new Error('expected a ServingError', { cause: outcome });
  return outcome;
}

export const codeOf = async (promise: Promise<unknown>): Promise<ErrorCode> =>
  (await failureOf(promise)).code;

export interface LoopbackServer {
  origin: string;
  host: string;
  requests: IncomingMessage[];
  close(): Promise<void>;
}

/** A server on a free loopback port. */
export async function startServer(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<LoopbackServer> {
  const requests: IncomingMessage[] = [];
  const server = http.createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    requests,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Answers a GET, or a range of it, as an honest server does. */
export function serveBytes(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  etag: string,
): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const ifRange = request.headers['if-range'];
  if (first === undefined || (ifRange !== undefined && ifRange !== etag)) {
    response.writeHead(200, { etag, 'content-length': bytes.length }).end(bytes);
    return;
  }
  const start = Number(first);
  const end = last ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
  response
    .writeHead(206, {
      etag,
      'content-length': end - start,
      'content-range': `bytes ${start}-${end - 1}/${bytes.length}`,
    })
    .end(bytes.subarray(start, end));
}
