/**
 * Parts of the server whose code is loaded only where the configuration wants them: a server without gRPC does without 10 MB.
 *
 * In      the configuration, and what each part is made of
 * Out     the part; null: it is not wanted
 * Errors  CONFIG_INVALID, as the parts have it
 */
import type { Logger } from 'pino';
import { lateImport } from '../proto/late-import.js';
import type { Config } from './config/config.js';
import type { GrpcServer, GrpcServerOptions } from './grpc/grpc-server.js';
import { refuseOpenAddress } from './http/access-gate.js';
import { RegistrationFolders } from './model-store/registration-folders.js';
import type { TorchServeServer } from './torchserve/torchserve-server.js';
import type { RegistrationParts } from './work-load-manager/model-origin.js';
import type { WorkLoadManager } from './work-load-manager/work-load-manager.js';

export type GrpcParts = Omit<GrpcServerOptions, 'address'>;

/** null: grpc_address says none. @throws ServingError CONFIG_INVALID */
export async function grpcServer({ server }: Config, parts: GrpcParts): Promise<GrpcServer | null> {
  const address = server.grpcAddress;
  if (address === null) return null;
  refuseOpenAddress('grpc_address', address, ['infer', 'manage'], parts.access, server);
  const { createGrpcServer } = await lateImport(() => import('./grpc/grpc-server.js'));
  return createGrpcServer({ ...parts, address });
}

/** null: another command started the server. @throws ServingError CONFIG_INVALID */
export async function torchServeOf(
  config: Config,
  management: WorkLoadManager,
  { fetch, release }: RegistrationParts,
  logger: Logger,
): Promise<TorchServeServer | null> {
  const { server, torchServe } = config;
  if (torchServe === null) return null;
  const { TorchServeServer } = await lateImport(() => import('./torchserve/torchserve-server.js'));
  return new TorchServeServer({
    ...{ config, torchServe, management, logger },
    allowed: new RegistrationFolders([server.modelStore, ...server.registrationFolders]),
    fetch: async (url) => {
      const signal = new AbortController().signal;
      const fetched = await fetch(url, { byRequest: true, signal, onProgress: () => undefined });
      return { folder: fetched.folder, release: () => release(fetched) };
    },
  });
}
