/**
 * Every route of a running server and every call of its gRPC listeners against every kind of key: the tables of test/ACCESS.md. `npm run docs` writes them; integration/api/access
 * holds the servers to them.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { SCOPES, type Scope } from '../../server/access/access-key.js';
import { ALL_DIALECTS } from '../../server/http/dialects/all-dialects.js';
import { torchServeDialects } from '../../server/http/dialects/torchserve/torchserve-dialects.js';
import type { ListedRoute } from '../../server/http/http-app.js';
import { type AskedCall, askedCalls, bearerOf, isRefusal, writeKeyOfEachScope } from './access-calls.js';
import { FakeManagement, pool } from './http-fake-management.js';
import { startServer } from './http-fixtures.js';
import { torchServeModelsOf } from './torchserve-parts.js';

export const ACCESS_FILE = 'test/ACCESS.md';

/** null: open. */
export const OIP_SCOPES: Readonly<Record<string, Scope | null>> = {
  ...{ ServerLive: null, ServerReady: null, ModelReady: 'infer', ServerMetadata: 'infer' },
  ...{ ModelMetadata: 'infer', ModelConfig: 'infer', ModelStatistics: 'infer', ModelInfer: 'infer' },
  ...{ ModelStreamInfer: 'infer', RepositoryIndex: 'manage', RepositoryModelLoad: 'manage' },
  RepositoryModelUnload: 'manage',
};
export const TORCHSERVE_SCOPES: Readonly<
  Record<'inference' | 'management', Readonly<Record<string, Scope>>>
> = {
  inference: { Ping: 'infer', Predictions: 'infer', StreamPredictions: 'infer', StreamPredictions2: 'infer' },
  management: {
    ...{ DescribeModel: 'manage', ListModels: 'manage', RegisterModel: 'manage', ScaleWorker: 'manage' },
    ...{ SetDefault: 'manage', UnregisterModel: 'manage' },
  },
};

/** What each kind of key gets of a route: a status, below 0 where the key was refused. */
export interface AskedRoute extends ListedRoute {
  none: number;
  unknown: number;
  byScope: Readonly<Record<Scope, number>>;
}

const isRefused = (code: number): boolean => code < 0;

/** Its key, or one of its scopes, is enough, and nothing else is. */
export function isRight({ access, byScope, none, unknown }: AskedRoute): boolean {
  if (access === 'open') return !isRefused(none) && !isRefused(unknown);
  if (!isRefused(none) || !isRefused(unknown) || access.length === 0) return false;
  return SCOPES.every((scope) => access.includes(scope) !== isRefused(byScope[scope]));
}

/** fetch sets no Host of its own and drops some headers. */
async function answerOf(
  url: string,
  method: string,
  headers: Record<string, string>,
): Promise<{ code: number; told: string }> {
  const client = httpRequest(url, { method, headers }).end();
  // One behind the response's head is the response's, too.
  client.on('error', () => undefined);
  const [response] = await once(client, 'response');
  const { statusCode } = response as IncomingMessage;
  return { code: statusCode!, told: await text(response as IncomingMessage) };
}

export async function statusOf(
  url: string,
  method: string,
  headers: Record<string, string> = {},
): Promise<number> {
  return (await answerOf(url, method, headers)).code;
}

/** TorchServe's refusal is a 400 of a type of its own. */
async function outcomeOf(url: string, method: string, headers: Record<string, string> = {}): Promise<number> {
  const { code, told } = await answerOf(url, method, headers);
  return code === 401 || code === 403 || told.includes('InvalidKeyException') ? -code : code;
}

/** A server with a key a scope, each of its routes asked with none, one that nobody has, and each of them. */
export async function askedRoutes(which: 'usual' | 'torchserve'): Promise<AskedRoute[]> {
  const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-routes-'));
  const keyFile = writeKeyOfEachScope(folder);
  const management = new FakeManagement();
  management.pools.push(pool('mlp', { version: '1.0', isDefault: true }));
  const metrics = { prometheus: true, contentType: 'text/plain', text: async () => '' };
  const { server, url } = await startServer(
    { keyFile },
    'mlp',
    which === 'usual' ? { metrics } : { metrics, management },
    which === 'usual' ? ALL_DIALECTS : torchServeDialects(torchServeModelsOf(management)),
  );
  try {
    const asked: AskedRoute[] = [];
    for (const route of server.routes) {
      const at = `${url}${route.url.replace(/:\w+/g, 'mlp').replace('*', 'x')}`;
      const as = (key: string) => outcomeOf(at, route.method, { authorization: bearerOf(key) });
      const [none, unknown, ...codes] = await Promise.all([
        outcomeOf(at, route.method),
        as('nobody'),
        ...SCOPES.map(as),
      ]);
      const byScope = Object.fromEntries(SCOPES.map((scope, index) => [scope, codes[index]!]));
      asked.push({ ...route, none, unknown, byScope: byScope as Record<Scope, number> });
    }
    return asked;
  } finally {
    await server.close();
    rmSync(folder, { recursive: true });
  }
}

const HEAD = ['none', 'unknown', ...SCOPES];
const tableOf = (what: string, rows: readonly string[]): string =>
  [`| ${what} | ${HEAD.join(' | ')} |`, `|${'---|'.repeat(HEAD.length + 1)}`, ...rows, ''].join('\n');

/** A line for all methods of a path that answer alike. */
export function routeTable(routes: readonly AskedRoute[]): string {
  const methods = new Map<string, string[]>();
  for (const { byScope, method, none, unknown, url } of routes) {
    const cells = [none, unknown, ...SCOPES.map((scope) => byScope[scope])];
    const shown = cells.map((code) => (isRefused(code) ? String(-code) : 'in'));
    const rest = `${url.replaceAll('|', '\\|')}\` | ${shown.join(' | ')} |`;
    methods.set(rest, [...(methods.get(rest) ?? []), method]);
  }
  const rows = [...methods].map(([rest, all]) => `| \`${all.sort().join(', ')} ${rest}`);
  return tableOf(
    'HTTP',
    rows.sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1)),
  );
}

const pathOf = (row: string): string => row.slice(row.indexOf('/'));

/** A line a call. */
export function callTable(calls: readonly AskedCall[]): string {
  const rows = calls.map(({ byScope, none, path: at, unknown }) => {
    const cells = [none, unknown, ...SCOPES.map((scope) => byScope[scope])];
    return `| \`${at.slice(1)}\` | ${cells.map((code) => (isRefusal(code) ? 'refused' : 'in')).join(' | ')} |`;
  });
  return tableOf('gRPC', rows.sort());
}

/** Each part of ACCESS.md by its marker. */
export async function accessTables(): Promise<Record<string, string>> {
  return {
    http: routeTable(await askedRoutes('usual')),
    torchserve: routeTable(await askedRoutes('torchserve')),
    ...Object.fromEntries(
      Object.entries(await askedCalls()).map(([part, calls]) => [part, callTable(calls)]),
    ),
  };
}
