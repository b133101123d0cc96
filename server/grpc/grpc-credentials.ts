/**
 * How the gRPC listener speaks: plainly, or by TLS with the certificate of the moment.
 *
 * In      the files' contents; null: http://
 * Out     credentials of grpc-js, and what ends their watch over the files
 */
import { ServerCredentials } from '@grpc/grpc-js';
import type { TlsFiles } from '../access/tls-files.js';

class FileCredentials extends ServerCredentials {
  readonly stop: () => void;

  constructor(tls: TlsFiles) {
    const { asksClients, context } = tls;
    super({ requestCert: asksClients, rejectUnauthorized: asksClients }, context);
    this.stop = tls.watch((next) => this.updateSecureContextOptions(next));
  }

  override _equals(other: ServerCredentials): boolean {
    return other === this;
  }
}

export function grpcCredentials(tls: TlsFiles | null): { credentials: ServerCredentials; stop(): void } {
  if (tls === null) return { credentials: ServerCredentials.createInsecure(), stop: () => {} };
  const credentials = new FileCredentials(tls);
  return { credentials, stop: credentials.stop };
}
