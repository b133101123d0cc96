/**
 * A listener of an https:// address: the certificate of the moment, and clients' certificates where they are asked for.
 *
 * In      the files' contents; a server of node:https
 * Out     its options; from each change of a file on, new connections see the new certificate, and those that are open go on
 * Limits  HANDSHAKE_MS to shake hands
 */
import type { Server, TlsOptions } from 'node:tls';
import type { TlsFiles } from '../access/tls-files.js';

const HANDSHAKE_MS = 10_000;

export function secureOptions(tls: TlsFiles): TlsOptions {
  const { asksClients, context } = tls;
  return {
    ...context,
    handshakeTimeout: HANDSHAKE_MS,
    requestCert: asksClients,
    rejectUnauthorized: asksClients,
  };
}

export function followFiles(server: Server, tls: TlsFiles): void {
  server.once(
    'close',
    tls.watch((context) => server.setSecureContext(context)),
  );
}
