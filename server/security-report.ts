/**
 * What a configuration opens to whom: its listeners, its secrets' files, the folders that it writes to, and what is wrong with any of them.
 *
 * In      a configuration, as the server would start with it; the files' modes
 * Out     rows; the server need not run, and nothing is changed
 * Errors  none: what cannot be read is a row
 */
import { lstatSync, type Stats, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AccessControl } from './access/access-control.js';
import type { Scope } from './access/access-key.js';
import { TlsFiles } from './access/tls-files.js';
import type { Config, ListenAddress, ServerConfig } from './config/config.js';
import { isLoopback } from './http/access-gate.js';
import { SCOPE_OF_ROLE } from './http/dialect.js';
import { listenersOf } from './http/listener-plans.js';

export interface SecurityRow {
  /** bad: the doctor fails. */
  level: 'ok' | 'note' | 'bad';
  kind: 'listener' | 'secret' | 'path' | 'setting';
  what: string;
  /** What it is, and what is wrong with it. */
  says: string;
}

const SOON_DAYS = 14;
const DAY_MS = 86_400_000;
const OTHERS_WRITE = 0o002;
const GROUP_WRITES = 0o020;
const STICKY = 0o1000;

export function securityReport(config: Config, nowMs = Date.now()): SecurityRow[] {
  const secrets = secretRows(config, nowMs);
  return [
    ...listenerRows(config, secrets.access),
    ...secrets.rows,
    ...pathRows(config),
    ...settingRows(config, secrets.access),
  ];
}

function secretRows(config: Config, nowMs: number) {
  const { server, torchServe } = config;
  const rows: SecurityRow[] = [];
  let access: AccessControl | null = null;
  const said: string[] = [];
  // Made at the start: whoever has none of them is somebody without a key.
  const tokens = torchServe === null || torchServe.disableTokens ? [] : [{ keys: () => [] }];
  if (tokens.length > 0)
    rows.push(row('ok', 'secret', 'tokens', `${torchServe!.keyFile}, written at the start, mode 600`));
  try {
    access = new AccessControl(server, (sentence) => said.push(sentence), undefined, tokens);
    if (server.keyFile !== null) rows.push(row('ok', 'secret', 'key_file', server.keyFile));
  } catch (error) {
    rows.push(row('bad', 'secret', 'key_file', (error as Error).message));
  }
  for (const name of ['api_key', 'management_key'] as const) {
    const value = name === 'api_key' ? server.apiKey : server.managementKey;
    if (value === null) continue;
    const isShort = value.length < 32;
    const says = isShort
      ? `has ${value.length} characters: \`shardserve key\` makes one of 43, which cannot be guessed`
      : 'is set, in clear, by environment or file';
    rows.push(row('note', 'secret', name, says));
  }
  if (addressesOf(config).some(({ address }) => address.tls === true))
    rows.push(certificateRow(server, nowMs));
  return { rows, access };
}

function certificateRow(server: ServerConfig, nowMs: number): SecurityRow {
  const what = server.keystore === null ? 'certificate_file' : 'keystore';
  try {
    const { validTo } = new TlsFiles(server, () => {});
    if (validTo === null) return row('ok', 'secret', what, server.keystore!);
    const days = Math.floor((validTo.getTime() - nowMs) / DAY_MS);
    const end = validTo.toISOString().slice(0, 10);
    const says = `${server.certificateFile}, until ${end}`;
    if (days < 0) return row('bad', 'secret', what, `${says}: it has run out`);
    return row(
      days < SOON_DAYS ? 'note' : 'ok',
      'secret',
      what,
      `${says}${days < SOON_DAYS ? `, ${days} days` : ''}`,
    );
  } catch (error) {
    return row('bad', 'secret', what, (error as Error).message);
  }
}

interface NamedAddress {
  keys: readonly string[];
  address: ListenAddress;
  scopes: readonly Scope[];
}

function addressesOf({ server, torchServe }: Config): NamedAddress[] {
  const http = listenersOf(server).map(({ address, keys, roles }) => ({
    ...{ address, keys },
    scopes: roles.map((role) => SCOPE_OF_ROLE[role]),
  }));
  const grpc: [string, ListenAddress | null | undefined, Scope[]][] = [
    ['grpc_address', server.grpcAddress, ['infer', 'manage']],
    ['grpc_inference_address', torchServe?.grpcInferenceAddress, ['infer', 'manage']],
    ['grpc_management_address', torchServe?.grpcManagementAddress, ['manage']],
  ];
  return [
    ...http,
    ...grpc.flatMap(([key, address, scopes]) => (address ? [{ keys: [key], address, scopes }] : [])),
  ];
}

function listenerRows(config: Config, access: AccessControl | null): SecurityRow[] {
  const { server } = config;
  const open = access?.anonymousScopes ?? [];
  return addressesOf(config).map(({ address, keys, scopes }) => {
    const isReached = !isLoopback(address);
    const asksClients = address.tls === true && server.clientCaFile !== null;
    const without = scopes.filter((scope) => open.includes(scope));
    const needs = scopes.filter((scope) => !without.includes(scope));
    const says = [
      urlOf(address),
      isReached ? 'reached from other machines' : 'this machine only',
      asksClients ? 'TLS with client certificates' : address.tls === true ? 'TLS' : 'no TLS',
      ...(needs.length > 0 ? [`with a key: ${needs.join(', ')}`] : []),
      ...(without.length > 0 ? [`without a key: ${without.join(', ')}`] : []),
    ];
    if (access === null)
      return row('bad', 'listener', keys.join(', '), [...says, 'no keys can be read'].join('; '));
    if (isReached && without.length > 0 && !asksClients)
      return row('bad', 'listener', keys.join(', '), [...says, 'anybody may ask'].join('; '));
    if (isReached && address.tls !== true)
      return row(
        'note',
        'listener',
        keys.join(', '),
        [...says, 'keys pass in clear unless a proxy ends TLS'].join('; '),
      );
    return row('ok', 'listener', keys.join(', '), says.join('; '));
  });
}

function urlOf({ host, kind, path: socket, port, tls }: ListenAddress): string {
  if (kind === 'unix') return `unix:${socket}`;
  return `${tls === true ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Folders that the server writes to, or takes models and code from. */
function pathRows({ server, store: { downloadFolder }, torchServe }: Config): SecurityRow[] {
  const written: (readonly [string, string | null])[] = [
    ['shard_store', server.shardStore],
    ['download_dir', downloadFolder],
    ['log_folder', server.logFolder],
    ['async_result_folder', server.asyncResultFolder],
    ['temporary files', tmpdir()],
    ...(torchServe === null
      ? []
      : ([
          ['logs and snapshots', torchServe.logFolder],
          ['logs of metrics', torchServe.metricsFolder],
          ['tokens', path.dirname(torchServe.keyFile)],
        ] as const)),
  ];
  const trusted: [string, string][] = [
    ['model_store', server.modelStore],
    ...server.registrationFolders
      .filter((folder) => folder !== '*')
      .map((folder): [string, string] => ['registration_folders', folder]),
  ];
  return [
    ...written.flatMap(([what, folder]) => (folder === null ? [] : [pathRow(what, folder, 'written')])),
    ...trusted.map(([what, folder]) => pathRow(what, folder, 'models, and their code, come from it')),
  ];
}

function pathRow(what: string, folder: string, use: string): SecurityRow {
  const says = (sentence: string) => `${folder} (${use})${sentence}`;
  let stat: Stats;
  try {
    stat = statSync(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    return row(
      code === 'ENOENT' ? 'ok' : 'note',
      'path',
      what,
      says(code === 'ENOENT' ? ' is not there yet' : ` cannot be read: ${code}`),
    );
  }
  const me = process.getuid?.() ?? 0;
  const loose = looseParent(folder);
  if (loose !== null) return row('bad', 'path', what, says(`: everybody may write to ${loose}`));
  if (stat.uid !== me && stat.uid !== 0)
    return row('bad', 'path', what, says(` belongs to user ${stat.uid}`));
  const mode = (stat.mode & 0o7777).toString(8);
  if ((stat.mode & GROUP_WRITES) !== 0 && (stat.mode & STICKY) === 0)
    return row('note', 'path', what, says(`: its group may write to it, mode ${mode}`));
  return row('ok', 'path', what, says(`, mode ${mode}`));
}

/** The folder, or one above it, that everybody may write to and take names away in; null: none. */
function looseParent(folder: string): string | null {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const stat = lstatSync(at, { throwIfNoEntry: false });
    if (stat?.isDirectory() === true && (stat.mode & OTHERS_WRITE) !== 0 && (stat.mode & STICKY) === 0)
      return at;
    if (at === path.dirname(at)) return null;
  }
}

function settingRows(config: Config, access: AccessControl | null): SecurityRow[] {
  const { models, server } = config;
  const rows: SecurityRow[] = [];
  const open = access?.anonymousScopes ?? [];
  const isReached = addressesOf(config).some(({ address }) => !isLoopback(address));
  if (server.insecure)
    rows.push(
      row(
        isReached && open.length > 0 ? 'bad' : 'note',
        'setting',
        'insecure',
        'a start without keys is allowed everywhere',
      ),
    );
  if (server.corsAllowedOrigin === '*')
    rows.push(
      row(
        open.length > 0 ? 'bad' : 'note',
        'setting',
        'cors_allowed_origin',
        `pages of every origin may ask${open.length > 0 ? ', also without a key' : ''}`,
      ),
    );
  if (server.registrationFolders.includes('*'))
    rows.push(
      row(
        isReached ? 'bad' : 'note',
        'setting',
        'registration_folders',
        'a request may register any folder that the server can read',
      ),
    );
  for (const { name, trustRemoteCode } of models)
    if (trustRemoteCode)
      rows.push(
        row(
          'note',
          'setting',
          `option.trust_remote_code of ${name}`,
          'code of a model that was fetched runs',
        ),
      );
  if (process.getuid?.() === 0)
    rows.push(row('note', 'setting', 'user', 'the server would run as root; any other user will do'));
  return rows;
}

const row = (
  level: SecurityRow['level'],
  kind: SecurityRow['kind'],
  what: string,
  says: string,
): SecurityRow => ({
  ...{ level, kind, what, says },
});
