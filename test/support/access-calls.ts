/**
 * Every call that the gRPC listeners answer, asked with no key, with one that nobody has and with one of each scope.
 *
 * In      the listeners of the server and of `shardserve torchserve`, over a service that makes words
 * Out     what each call answered, by the listener's part of ACCESS.md
 *
 * A call is sent an empty message: whatever it says of that, it has let it in. Its paths are those that the listener has.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { AccessControl } from '../../server/access/access-control.js';
import { digestOf, SCOPES, type Scope } from '../../server/access/access-key.js';
import type { GrpcServer } from '../../server/grpc/grpc-listener.js';
import { createGrpcServer } from '../../server/grpc/grpc-server.js';
import { createTorchServeServers } from '../../server/grpc/torchserve-servers.js';
import { torchServeDialects } from '../../server/http/dialects/torchserve/torchserve-dialects.js';
import { grpcCallsOf } from '../../server/torchserve/grpc-calls-of.js';
import { FakeManagement, managementOf, pool } from './http-fake-management.js';
import { FakeService, startServer } from './http-fixtures.js';
import { torchServeModelsOf } from './torchserve-parts.js';

/** A status of each kind of key. */
export interface AskedCall {
  path: string;
  none: number;
  unknown: number;
  byScope: Readonly<Record<Scope, number>>;
}

export const isRefusal = (code: number): boolean =>
  code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED;

export const bearerOf = (name: string): string => `Bearer secret-of-${name}`;

/** @returns a file with a key of each scope, called after it */
export function writeKeyOfEachScope(folder: string): string {
  const keyFile = path.join(folder, 'keys.json');
  const keys = SCOPES.map((scope) => {
    const sha256 = digestOf(`secret-of-${scope}`).toString('hex');
    return { name: scope, sha256, scopes: [scope] };
  });
  writeFileSync(keyFile, JSON.stringify({ keys }));
  chmodSync(keyFile, 0o600);
  return keyFile;
}

/** Each listener's by its part of ACCESS.md. */
export async function askedCalls(): Promise<Record<string, AskedCall[]>> {
  const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-calls-'));
  const keys = {
    apiKey: null,
    managementKey: null,
    keyFile: writeKeyOfEachScope(folder),
    anonymousScopes: null,
  };
  const address = { kind: 'tcp' as const, host: '127.0.0.1', port: 0, path: '' };
  const shared = {
    access: new AccessControl(keys, () => {}),
    ...{
      version: '1',
      modelStore: '/models',
      maxMessageBytes: 65_536,
      drainTimeoutMs: 1000,
      stallLimitMs: 60_000,
    },
  };
  const service = new FakeService();
  const usual = createGrpcServer({ ...shared, address, service, management: managementOf(service) });
  const management = new FakeManagement();
  management.pools.push(pool('mlp', { version: '1.0', isDefault: true }));
  const models = torchServeModelsOf(management);
  const http = await startServer({}, 'mlp', { management }, torchServeDialects(models));
  const at = { address, maxAgeMs: null, graceMs: null };
  const [inference, managed] = createTorchServeServers({
    ...{ ...shared, management, service: http.service, inferenceAt: at, managementAt: at },
    calls: grpcCallsOf(http.server.context, models),
  });
  const listeners = { grpc: usual, 'torchserve-inference': inference!, 'torchserve-management': managed! };
  try {
    const asked: Record<string, AskedCall[]> = {};
    for (const [part, server] of Object.entries(listeners)) asked[part] = await askedOf(server);
    return asked;
  } finally {
    await Promise.all([...Object.values(listeners), http.server].map((server) => server.close()));
    rmSync(folder, { recursive: true });
  }
}

async function askedOf(server: GrpcServer): Promise<AskedCall[]> {
  const client = new Client(await server.listen(), credentials.createInsecure());
  try {
    const all: AskedCall[] = [];
    for (const at of server.calls) {
      const as = (name: string | null) => codeOf(client, at, name);
      const [none, unknown, ...codes] = await Promise.all([as(null), as('nobody'), ...SCOPES.map(as)]);
      const byScope = Object.fromEntries(SCOPES.map((scope, index) => [scope, codes[index]!]));
      all.push({ path: at, none, unknown, byScope: byScope as Record<Scope, number> });
    }
    return all;
  } finally {
    client.close();
  }
}

/** As of a stream both ways, which every call looks like from outside; the first answer is enough, as of one that is watched. */
function codeOf(client: Client, at: string, name: string | null): Promise<number> {
  const metadata = new Metadata();
  if (name !== null) metadata.set('authorization', bearerOf(name));
  const asIs = (bytes: Buffer): Buffer => bytes;
  return new Promise((resolve) => {
    const stream = client.makeBidiStreamRequest(at, asIs, asIs, metadata);
    stream.on('error', ({ code }: ServiceError) => resolve(code));
    stream.on('data', () => {
      resolve(status.OK);
      stream.cancel();
    });
    stream.on('end', () => resolve(status.OK));
    stream.write(Buffer.alloc(0));
    stream.end();
  });
}
