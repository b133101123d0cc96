/**
 * The HTTP listeners: where the dialects meet a socket. One an address of inference_address, management_address and metrics_address.
 *
 * In      HttpDeps
 * Out     listen, close, setDraining
 * Limits  close() waits so long as it is told for running responses, then cuts them
 * Errors  CONFIG_INVALID when an address can't be listened on
 * Source  DJLServing 0.36: one listener where both addresses are equal
 */
import { once } from 'node:events';
import { lstatSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import { TlsFiles } from '../access/tls-files.js';
import type { ListenAddress } from '../config/config.js';
import { refuseOpenAddress } from './access-gate.js';
import { type Dialect, type ListenerRole, SCOPE_OF_ROLE } from './dialect.js';
import { ALL_DIALECTS } from './dialects/all-dialects.js';
import { createHttpApp, type ListedRoute } from './http-app.js';
import { createHttpContext, type HttpContext, type HttpDeps } from './http-context.js';
import { listenersOf } from './listener-plans.js';

export interface HttpServer {
  /** Tells, before anything is loaded, of an address that is taken. @throws ServingError CONFIG_INVALID */
  tryAddresses(): Promise<void>;
  /** Starts to listen; the inference address as a URL, with the real port where 0 was asked. */
  listen(): Promise<string>;
  /** The same of the management address; null until it listens. */
  readonly managementUrl: string | null;
  /** And of the metrics' address. */
  readonly metricsUrl: string | null;
  /** What its routes share. */
  readonly context: HttpContext;
  /** Every route of every listener. */
  readonly routes: readonly ListedRoute[];
  /** Refuses new requests, waits for running responses (bounded), then stops listening and closes every connection. */
  close(limitMs?: number): Promise<void>;
  /** Refuse new requests with 503; running ones go on. */
  setDraining(): void;
}

export async function createHttpServer(
  options: HttpDeps,
  dialects: readonly Dialect[] = ALL_DIALECTS,
): Promise<HttpServer> {
  const context = createHttpContext(options);
  const { access, config } = context;
  const plans = listenersOf(config);
  for (const { keys, address, roles } of plans) {
    const scopes = roles.map((role) => SCOPE_OF_ROLE[role]);
    refuseOpenAddress(keys[0]!, address, scopes, access, config);
  }
  const tls = plans.some(({ address }) => address.tls === true)
    ? (options.tls ?? new TlsFiles(config, (sentence) => context.logger.error(sentence)))
    : null;
  const listeners = await Promise.all(
    plans.map(async (plan) => ({
      ...plan,
      ...(await createHttpApp(context, dialects, plan.roles, plan.address, tls)),
    })),
  );
  const urls = new Map<ListenerRole, string>();
  const setDraining = () => {
    context.draining = true;
  };
  return {
    context,
    async tryAddresses() {
      for (const { address, keys } of plans) await tryAddress(keys[0]!, address);
    },
    async listen() {
      try {
        // Inference last: whoever sees its address answer finds the others too.
        for (const { app, keys, address, roles } of listeners.toReversed()) {
          const url = await listenOn(app, keys[0]!, address);
          for (const role of roles) urls.set(role, url);
          if (roles.includes('inference')) continue;
          const told = Object.fromEntries(roles.map((role) => [`${role}Url`, url]));
          options.logger.info(told, `the ${roles[0]} API has an address of its own`);
        }
      } catch (error) {
        await Promise.all(listeners.map(({ app }) => app.close()));
        throw error;
      }
      return urls.get('inference')!;
    },
    get managementUrl() {
      return urls.get('management') ?? null;
    },
    get metricsUrl() {
      return urls.get('metrics') ?? null;
    },
    get routes() {
      return listeners.flatMap((listener) => listener.routes());
    },
    async close(limitMs = config.drainTimeoutSeconds * 1000) {
      setDraining();
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, limitMs);
      });
      const idle = [...listeners, context.asyncResults].map((one) => one.idle());
      await Promise.race([Promise.all(idle), timeout]);
      clearTimeout(timer);
      await context.asyncResults.close();
      await Promise.all(listeners.map(({ app }) => app.close()));
    },
    setDraining,
  };
}

/** Listens for a moment. A port that another process takes meanwhile is told by `listen`. @throws ServingError CONFIG_INVALID */
async function tryAddress(key: string, address: ListenAddress): Promise<void> {
  if (address.kind !== 'tcp' || address.port === 0) return;
  const server = createServer().listen({ host: address.host, port: address.port, exclusive: true });
  try {
    await once(server, 'listening');
  } catch (error) {
    throw cannotListen(key, address, error);
  }
  server.close();
  await once(server, 'close');
}

function cannotListen(key: string, address: ListenAddress, cause: unknown): ServingError {
  const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  const reason =
    code === 'EADDRINUSE' ? 'the address is in use: end what listens there, or give another (--port)' : code;
  return new ServingError('CONFIG_INVALID', `${key}: cannot listen on ${where}: ${reason}`, { cause });
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
    throw cannotListen(key, address, error);
  }
}

/** A socket file that a killed server left; anything else at that path stays and makes listen fail. */
function removeStaleSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}
