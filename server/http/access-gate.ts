/**
 * The one check of who may do what, before the body is read and before any handler: a route says which scope it needs, a route
 * that says nothing is closed.
 *
 * In      a request's route, headers; the server's keys
 * Out     `request.accessKey`: the key it came with, or null
 * Errors  UNAUTHENTICATED (401), FORBIDDEN (403): also for a page of another origin, and for a host name that is not this server's;
 *         RATE_LIMITED (429)
 *
 * Without a key a browser is the danger: any page it shows may send requests here, and a name may be made to mean this address
 * (DNS rebinding). So a request without a key must come from no other origin than cors_allowed_origin, and, on a loopback address,
 * ask for this host by an address, by localhost or by a name in host_names.
 */
import { isIP } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import type { AccessControl } from '../access/access-control.js';
import type { AccessKey, Scope } from '../access/access-key.js';
import type { Allowance, RequestLimits } from '../access/request-limits.js';
import type { ListenAddress, ServerConfig } from '../config/config.js';
import { CUSTOM_ATTRIBUTES_HEADER } from '../requests/request-control.js';

declare module 'fastify' {
  interface FastifyRequest {
    accessKey: AccessKey | null;
  }
  interface FastifyContextConfig {
    /** One of which is enough; 'open': none is needed. */
    access?: readonly Scope[] | 'open';
    /** It looks itself whether the server drains. */
    refusesWhileDraining?: boolean;
  }
}

/** Routes of `plugin` need one of `access`, except where a route says otherwise. */
export function within<Options>(
  access: readonly Scope[] | 'open',
  plugin: (app: FastifyInstance, options: Options) => Promise<void>,
): (app: FastifyInstance, options: Options) => Promise<void> {
  return async (app, options) => {
    app.addHook('onRoute', (route) => {
      route.config = { access, ...route.config };
    });
    await plugin(app, options);
  };
}

/** @throws ServingError */
export function checkAccess(
  request: FastifyRequest,
  reply: FastifyReply,
  access: AccessControl,
  config: ServerConfig,
  address: ListenAddress,
): void {
  const asked = request.is404 ? null : (request.routeOptions.config.access ?? []);
  if (asked === 'open') return;
  // A browser asks so before it sends a key; it is answered with headers alone.
  if (request.method === 'OPTIONS' && config.corsAllowedOrigin !== null) return;
  try {
    request.accessKey = access.keyOf(request.headers);
    access.demand(request.accessKey, asked);
  } catch (error) {
    if (error instanceof ServingError && error.code === 'UNAUTHENTICATED')
      reply.header('www-authenticate', 'Bearer');
    throw error;
  }
  if (request.accessKey === null) {
    refuseOtherOrigin(request, config.corsAllowedOrigin);
    if (isLoopback(address)) refuseOtherHost(request, config.hostNames);
  }
}

/**
 * Counts a request that asks a model, before a byte of its body is read, until its response has ended.
 *
 * @throws ServingError RATE_LIMITED
 */
export function beginRequest(request: FastifyRequest, reply: FastifyReply, limits: RequestLimits): void {
  const asked = request.is404 ? 'open' : (request.routeOptions.config.access ?? []);
  if (asked === 'open' || !asked.includes('infer') || request.method === 'OPTIONS') return;
  try {
    reply.raw.once('close', limits.begin(request.accessKey, isPoll(request)));
  } finally {
    tellAllowance(reply, limits.allowance(request.accessKey));
  }
}

/** It asks for an asynchronous answer. */
const isPoll = ({ headers }: FastifyRequest): boolean =>
  headers['x-starting-token'] !== undefined ||
  /x-starting-token *=/i.test(String(headers[CUSTOM_ATTRIBUTES_HEADER] ?? ''));

/** A request that changes the server, also one that was refused: they are told apart in the log. */
export function isManagement({ is404, method, routeOptions, url }: FastifyRequest): boolean {
  const { access = [] } = routeOptions.config;
  if (is404 || access === 'open' || !access.includes('manage') || access.includes('infer')) return false;
  // DJLServing sets the level of the log by GET.
  return method !== 'GET' || url.startsWith('/server/logging');
}

/** In OpenAI's words, which clients of other dialects know too. */
function tellAllowance(reply: FastifyReply, { requests, tokens }: Allowance): void {
  for (const [kind, bucket] of [
    ['requests', requests],
    ['tokens', tokens],
  ] as const) {
    if (bucket === null) continue;
    reply.header(`x-ratelimit-limit-${kind}`, bucket.limit);
    reply.header(`x-ratelimit-remaining-${kind}`, bucket.left);
  }
}

export function isLoopback(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const { host } = address;
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function refuseOtherOrigin({ headers }: FastifyRequest, allowed: string | null): void {
  const { origin, host } = headers;
  if (allowed === '*' || (origin !== undefined && origin === allowed)) return;
  const site = headers['sec-fetch-site'];
  const isOther =
    origin === undefined
      ? site === 'cross-site' || site === 'same-site'
      : origin !== `http://${host}` && origin !== `https://${host}`;
  if (!isOther) return;
  throw new ServingError(
    'FORBIDDEN',
    'A page of another origin asks, without a key; cors_allowed_origin names the origin that may',
  );
}

function refuseOtherHost({ headers }: FastifyRequest, known: readonly string[]): void {
  const { host } = headers;
  if (host === undefined || host === '') return;
  const name = host
    .replace(/:\d*$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  if (isIP(name) !== 0 || name === 'localhost' || name.endsWith('.localhost') || known.includes(name)) return;
  throw new ServingError(
    'FORBIDDEN',
    'The request asks for a host of another name, without a key; host_names lists the names of this server',
  );
}

/**
 * @param scopes that the listener of this address serves
 * @throws ServingError CONFIG_INVALID: whoever reaches the address would own the server, and nobody said that this is meant
 */
export function refuseOpenAddress(
  key: string,
  address: ListenAddress,
  scopes: readonly Scope[],
  access: AccessControl,
  config: ServerConfig,
): void {
  if (config.insecure || isLoopback(address)) return;
  // Only who has a certificate gets as far as a request.
  if (address.tls === true && config.clientCaFile !== null) return;
  const open = scopes.filter((scope) => access.anonymousScopes.includes(scope));
  if (open.length === 0) return;
  throw new ServingError(
    'CONFIG_INVALID',
    `${key}: ${address.host} can be reached from other machines, and ${open.join(', ')} need no key there; ` +
      'set api_key and management_key or key_file, listen on 127.0.0.1, or say insecure=true',
  );
}
