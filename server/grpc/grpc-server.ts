/**
 * The gRPC listener of grpc_address: the Open Inference Protocol, health and reflection.
 *
 * In      the server's parts; grpc_address
 * Out     listen, close
 * Limits  those of grpc-listener.ts
 * Errors  CONFIG_INVALID: the address cannot be listened on, or it is open to others without keys
 */
import { loadSync } from '@grpc/proto-loader';
import protobuf from 'protobufjs';
import { protoFile } from '../../proto/proto-file.js';
import type { TlsFiles } from '../access/tls-files.js';
import type { ListenAddress } from '../config/config.js';
import { type GrpcServer, grpcListener } from './grpc-listener.js';
import { type GrpcParts, inferenceHandlers } from './inference-service.js';
import { PROTO_OPTIONS } from './oip-messages.js';

export type { GrpcServer } from './grpc-listener.js';

const SERVICE = 'inference.GRPCInferenceService';

export interface GrpcServerOptions extends Omit<GrpcParts, 'isDraining'> {
  address: ListenAddress;
  maxMessageBytes: number;
  maxConnections?: number;
  drainTimeoutMs: number;
  /** For an https:// address; absent or null: none is needed. */
  tls?: TlsFiles | null;
}

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  let isDraining = false;
  const {
    access,
    address,
    drainTimeoutMs,
    maxConnections,
    maxMessageBytes,
    stallLimitMs,
    tls = null,
  } = options;
  const file = protoFile('open_inference.proto');
  const definition = loadSync(file, PROTO_OPTIONS);
  const handlers = inferenceHandlers({ ...options, isDraining: () => isDraining });
  return grpcListener({
    ...{ access, address, drainTimeoutMs, maxMessageBytes, stallLimitMs, tls, key: 'grpc_address' },
    ...(maxConnections !== undefined && { maxConnections }),
    services: [{ name: SERVICE, definition, types: protobuf.loadSync(file), handlers }],
    onDraining: () => {
      isDraining = true;
    },
  });
}
