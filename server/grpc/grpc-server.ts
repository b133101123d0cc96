/**
 * The gRPC listener: the Open Inference Protocol, health and reflection on one address.
 *
 * In      the server's parts; grpc_address
 * Out     listen, close
 * Limits  max_request_size a message; MAX_STREAMS calls of a connection; keep-alive pings no oftener than MIN_PING_MS; close() waits so long as it is told for running calls
 * Errors  CONFIG_INVALID: the address cannot be listened on, or it is open to others without keys
 * Source  grpc/grpc doc/health-checking.md, doc/server-reflection.md: both by the packages of grpc-node
 */
import { loadPackageDefinition, Server, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { ServingError } from '../../proto/errors.js';
import { protoFile } from '../../proto/proto-file.js';
import type { TlsFiles } from '../access/tls-files.js';
import type { ListenAddress } from '../config/config.js';
import { grpcCredentials } from './grpc-credentials.js';
import { type GrpcParts, inferenceHandlers } from './inference-service.js';
import { PROTO_OPTIONS } from './oip-messages.js';

const SERVICE = 'inference.GRPCInferenceService';
/** A client that pings oftener is cut off: the protocol's own defence. */
const MIN_PING_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
/** Calls of one connection at once. */
const MAX_STREAMS = 1000;

export interface GrpcServerOptions extends Omit<GrpcParts, 'isDraining'> {
  address: ListenAddress;
  maxMessageBytes: number;
  drainTimeoutMs: number;
  /** For an https:// address; absent or null: none is needed. */
  tls?: TlsFiles | null;
}

export interface GrpcServer {
  /** @returns host and port, or unix:path, with the real port where 0 was asked. @throws ServingError CONFIG_INVALID */
  listen(): Promise<string>;
  /** Refuses new requests; running ones go on. */
  setDraining(): void;
  close(limitMs?: number): Promise<void>;
}

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const { address, drainTimeoutMs, maxMessageBytes, tls = null } = options;
  const { credentials, stop } = grpcCredentials(address.tls === true ? tls : null);
  const definition = loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS);
  const loaded = loadPackageDefinition(definition) as unknown as {
    inference: { GRPCInferenceService: ServiceClientConstructor };
  };
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': MAX_STREAMS,
    'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
    'grpc.http2.min_ping_interval_without_data_ms': MIN_PING_MS,
  });
  let isDraining = false;
  const handlers = inferenceHandlers({ ...options, isDraining: () => isDraining });
  server.addService(loaded.inference.GRPCInferenceService.service, handlers as never);
  const health = new HealthImplementation({ '': 'SERVING', [SERVICE]: 'SERVING' });
  health.addToServer(server as never);
  new ReflectionService(definition).addToServer(server);
  const setDraining = (): void => {
    isDraining = true;
    for (const name of ['', SERVICE]) health.setStatus(name, 'NOT_SERVING');
  };
  return {
    async listen() {
      const place =
        address.kind === 'unix' ? `unix:${address.path}` : `${hostOf(address.host)}:${address.port}`;
      const port = await new Promise<number>((resolve, reject) => {
        server.bindAsync(place, credentials, (error, bound) => {
          if (error) {
            reject(
              new ServingError(
                'CONFIG_INVALID',
                `grpc_address: ${place} can't be listened on: ${error.message}`,
              ),
            );
          } else resolve(bound);
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

const hostOf = (host: string): string => (host.includes(':') ? `[${host}]` : host);
