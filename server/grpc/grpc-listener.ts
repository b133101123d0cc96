/**
 * One address of gRPC: services on a server, health and reflection beside them.
 *
 * In      services with their handlers; an address
 * Out     listen, close
 * Limits  max_request_size a message, and all calls at a time (received-bytes.ts), also by what they take as objects (decoded-bytes.ts);
 *         answers that nobody takes (unread-messages.ts);
 *         max_connections, and as many calls at a time, MAX_STREAMS of a connection; health and reflection: open-services.ts; keep-alive pings no oftener than MIN_PING_MS; IDLE_MS of a connection without a call; close() waits so long as it is told for running calls
 * Errors  CONFIG_INVALID: the address cannot be listened on
 * Source  grpc/grpc doc/health-checking.md, doc/server-reflection.md: both by the packages of grpc-node
 */
import type { Server as NetServer } from 'node:net';
import {
  loadPackageDefinition,
  Server,
  type ServiceClientConstructor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import type protobuf from 'protobufjs';
import { ServingError } from '../../proto/errors.js';
import type { AccessControl } from '../access/access-control.js';
import type { TlsFiles } from '../access/tls-files.js';
import type { ListenAddress } from '../config/config.js';
import { mostUnread } from '../requests/unread-bytes.js';
import { isKnown } from './grpc-calls.js';
import { grpcCredentials } from './grpc-credentials.js';
import { addOpenServices } from './open-services.js';
import { boundedMessages, receivedBytes } from './received-bytes.js';
import { UnreadMessages } from './unread-messages.js';

/** A client that pings oftener is cut off: the protocol's own defence. */
const MIN_PING_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
/** A connection without a call is ended: clients open another by themselves. */
const IDLE_MS = 300_000;
/** Calls of one connection at once. */
const MAX_STREAMS = 1000;

export interface GrpcServer {
  /** Names its address in messages. */
  readonly key: string;
  /** Paths of all that it answers. */
  readonly calls: readonly string[];
  /** @returns host and port, or unix:path, with the real port where 0 was asked. @throws ServingError CONFIG_INVALID */
  listen(): Promise<string>;
  /** Refuses new requests; running ones go on. */
  setDraining(): void;
  close(limitMs?: number): Promise<void>;
}

/** A service by its full name, and what answers its calls. */
export interface ListenedService {
  name: string;
  definition: PackageDefinition;
  /** What it was made of: its types. */
  types: protobuf.Root;
  handlers: object;
}

export interface ListenerOptions {
  /** Names it in messages. */
  key: string;
  address: ListenAddress;
  services: readonly ListenedService[];
  maxMessageBytes: number;
  /** One more is closed at once; absent: as many as may be. */
  maxConnections?: number;
  access: AccessControl;
  drainTimeoutMs: number;
  /** A reader that takes nothing of its answer for so long is given up. */
  stallLimitMs: number;
  /** What an https:// address needs; absent or null: it is none. */
  tls?: TlsFiles | null;
  onDraining: () => void;
  /** null or absent: connections may be as old as they like. */
  maxAgeMs?: number | null;
  graceMs?: number | null;
}

export function grpcListener(options: ListenerOptions): GrpcServer {
  const {
    access,
    address,
    drainTimeoutMs,
    graceMs = null,
    key,
    maxAgeMs = null,
    maxConnections,
    maxMessageBytes,
    services,
    stallLimitMs,
  } = options;
  const { credentials, stop } = grpcCredentials(address.tls === true ? (options.tls ?? null) : null);
  const unread = new UnreadMessages(mostUnread(maxMessageBytes), stallLimitMs);
  const server = new Server({
    interceptors: [
      receivedBytes({
        ...{ maxBytes: maxMessageBytes, maxCalls: Math.max(maxConnections ?? 0, MAX_STREAMS) },
        isKnown: (metadata) => isKnown(metadata, access),
        unread,
      }),
    ],
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': MAX_STREAMS,
    'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
    'grpc.max_connection_idle_ms': IDLE_MS,
    'grpc.http2.min_ping_interval_without_data_ms': MIN_PING_MS,
    ...(maxAgeMs !== null && { 'grpc.max_connection_age_ms': maxAgeMs }),
    ...(graceMs !== null && { 'grpc.max_connection_age_grace_ms': graceMs }),
  });
  const names = ['', ...services.map(({ name }) => name)];
  const calls: string[] = [];
  const add = (service: ServiceDefinition, handlers: UntypedServiceImplementation): void => {
    calls.push(...Object.values(service).map((call) => call.path));
    server.addService(service, handlers);
  };
  for (const { definition, handlers, name, types } of services) {
    const loaded = name
      .split('.')
      .reduce<unknown>(
        (at, part) => (at as Record<string, unknown>)[part],
        loadPackageDefinition(definition),
      );
    const { service } = loaded as ServiceClientConstructor;
    add(boundedMessages(service, types.lookupService(name), maxMessageBytes), handlers as never);
  }
  const health = addOpenServices(
    add,
    names,
    services.map(({ definition }) => definition),
  );
  const setDraining = (): void => {
    options.onDraining();
    for (const name of names) health.setStatus(name, 'NOT_SERVING');
  };
  return {
    key,
    calls,
    async listen() {
      const place =
        address.kind === 'unix' ? `unix:${address.path}` : `${hostOf(address.host)}:${address.port}`;
      const port = await new Promise<number>((resolve, reject) => {
        server.bindAsync(place, credentials, (error, bound) => {
          const sentence = `${key}: ${place} can't be listened on: ${error?.message}`;
          if (error) reject(new ServingError('CONFIG_INVALID', sentence));
          else {
            if (maxConnections !== undefined) boundConnections(server, maxConnections);
            resolve(bound);
          }
        });
      });
      return address.kind === 'unix' ? place : `${hostOf(address.host)}:${port}`;
    },
    setDraining,
    async close(limitMs = drainTimeoutMs) {
      setDraining();
      stop();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => server.forceShutdown(), limitMs);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    },
  };
}

/** grpc-node has no option for it, but keeps the servers that listen. */
function boundConnections(server: Server, maxConnections: number): void {
  const { http2Servers } = server as unknown as { http2Servers: Map<NetServer, unknown> };
  for (const listener of http2Servers.keys()) listener.maxConnections = maxConnections;
}

const hostOf = (host: string): string => (host.includes(':') ? `[${host}]` : host);
