/**
 * The HTTP listeners: where the dialects meet a socket. One where inference_address and management_address are equal, else two.
 *
 * In      HttpDeps
 * Out     listen, close, setDraining
 * Limits  close() waits drain_timeout for running responses, then cuts them
 * Errors  CONFIG_INVALID when an address can't be listened on
 * Source  reference serving-apis §1.1
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { FastifyInstance } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import type { ListenAddress } from '../config/config.js';
import { refuseOpenAddress } from './access-gate.js';
import { createHttpApp, type HttpApp, type ListedRoute, ROLE_SCOPES } from './http-app.js';
import { createHttpContext, type HttpDeps } from './http-context.js';

const ALL_HOSTS = ['0.0.0.0', '::'];

export interface HttpServer {
  /** Starts to listen; the inference address as a URL, with the real port where 0 was asked. */
  listen(): Promise<string>;
  /** The same of the management address; null until it listens. */
  readonly managementUrl: string | null;
  /** Every route of every listener. */
  readonly routes: readonly ListedRoute[];
  /** Refuses new requests, waits for running responses (bounded), then stops listening and closes every connection. */
  close(): Promise<void>;
  /** Refuse new requests with 503; running ones go on. */
  setDraining(): void;
}

interface Listener extends HttpApp {
  key: 'inference_address' | 'management_address';
  address: ListenAddress;
}

export async function createHttpServer(options: HttpDeps): Promise<HttpServer> {
  const context = createHttpContext(options);
  const { inferenceAddress, managementAddress, drainTimeoutSeconds } = options.config;
  const isOne = isDeepStrictEqual(inferenceAddress, managementAddress);
  if (!isOne) refuseOverlap(inferenceAddress, managementAddress);
  const role = isOne ? 'both' : 'inference';
  const { access, config } = context;
  refuseOpenAddress('inference_address', inferenceAddress, ROLE_SCOPES[role], access, config);
  if (!isOne)
    refuseOpenAddress('management_address', managementAddress, ROLE_SCOPES.management, access, config);
  const inference: Listener = {
    ...(await createHttpApp(context, role, inferenceAddress)),
    key: 'inference_address',
    address: inferenceAddress,
  };
  const listeners: Listener[] = [inference];
  if (!isOne) {
    const management = await createHttpApp(context, 'management', managementAddress);
    listeners.push({ ...management, key: 'management_address', address: managementAddress });
  }
  let managementUrl: string | null = null;
  const setDraining = () => {
    context.draining = true;
  };
  return {
    async listen() {
      const urls: string[] = [];
      try {
        // Management first: whoever sees the inference address answer finds the other one too.
        for (const { app, key, address } of listeners.toReversed())
          urls.push(await listenOn(app, key, address));
      } catch (error) {
        await Promise.all(listeners.map(({ app }) => app.close()));
        throw error;
      }
      managementUrl = urls[0]!;
      if (!isOne) options.logger.info({ managementUrl }, 'the management API has an address of its own');
      return urls.at(-1)!;
    },
    get managementUrl() {
      return managementUrl;
    },
    get routes() {
      return listeners.flatMap((listener) => listener.routes());
    },
    async close() {
      setDraining();
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainTimeoutSeconds * 1000);
      });
      await Promise.race([Promise.all(listeners.map(({ idle }) => idle())), timeout]);
      clearTimeout(timer);
      context.asyncResults.close();
      await Promise.all(listeners.map(({ app }) => app.close()));
    },
    setDraining,
  };
}

/** Different hosts and one port, where one of the hosts is all of them. @throws ServingError CONFIG_INVALID */
function refuseOverlap(inference: ListenAddress, management: ListenAddress): void {
  const areTcp = inference.kind === 'tcp' && management.kind === 'tcp';
  const samePort = areTcp && inference.port === management.port && inference.port !== 0;
  if (!samePort || ![inference.host, management.host].some((host) => ALL_HOSTS.includes(host))) return;
  const shown = `${management.host}:${management.port}`;
  throw new ServingError(
    'CONFIG_INVALID',
    `management_address: ${shown} is taken by inference_address ${inference.host}:${inference.port}; give both the same address, or another port`,
  );
}

/** @throws ServingError CONFIG_INVALID */
async function listenOn(app: FastifyInstance, key: string, address: ListenAddress): Promise<string> {
  try {
    if (address.kind === 'unix') {
      removeStaleSocket(address.path);
      await app.listen({ path: address.path });
      return `unix:${address.path}`;
    }
    return await app.listen({ host: address.host, port: address.port });
  } catch (error) {
    const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    const reason = code === 'EADDRINUSE' ? 'the address is in use' : code;
    throw new ServingError('CONFIG_INVALID', `${key}: cannot listen on ${where}: ${reason}`, {
      cause: error,
    });
  }
}

/** A socket file that a killed server left; anything else at that path stays and makes listen fail. */
function removeStaleSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}
