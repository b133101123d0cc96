/**
 * Certificate and key of the listeners of https:// addresses, and whose clients' certificates are asked for; read again when a file
 * changes.
 *
 * In      paths of PEM files, or of a PKCS#12 keystore with its password
 * Out     what a secure context is made of; listeners are told of new ones
 * Limits  MAX_FILE_BYTES each; nobody but owner and group may read the key
 * Errors  CONFIG_INVALID at the first reading, without a byte of a file; later a file that is gone or wrong is told to `onProblem` once a
 *         change, and what was read before stays in use
 * Source  names of the keys: DJLServing's and TorchServe's
 */
import { X509Certificate } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { ServingError } from '../../proto/errors.js';

const MAX_FILE_BYTES = 1024 * 1024;
/** Others may do nothing, the group may read: a secret of Kubernetes is its group's. */
const FORBIDDEN_BITS = 0o037;
const LOOK_MS = 2000;

export interface TlsOptions {
  certificateFile: string | null;
  privateKeyFile: string | null;
  /** PKCS#12, instead of the two. */
  keystore: string | null;
  keystorePass: string;
  /** PEM; null: clients need no certificate. */
  clientCaFile: string | null;
}

export class TlsFiles {
  readonly #options: TlsOptions;
  readonly #onProblem: (sentence: string) => void;
  readonly #listeners = new Set<(context: SecureContextOptions) => void>();
  #timer: NodeJS.Timeout | null = null;
  #versions: string;
  #context: SecureContextOptions;

  /** @throws ServingError CONFIG_INVALID */
  constructor(options: TlsOptions, onProblem: (sentence: string) => void) {
    this.#options = options;
    this.#onProblem = onProblem;
    this.#versions = this.#look();
    this.#context = read(options);
  }

  get context(): SecureContextOptions {
    return this.#context;
  }

  /** Clients must show a certificate of ours. */
  get asksClients(): boolean {
    return this.#options.clientCaFile !== null;
  }

  /** The end of the certificate that is shown; null: of a keystore. */
  get validTo(): Date | null {
    const { cert } = this.#context;
    return cert === undefined ? null : new Date(new X509Certificate(cert as Buffer).validTo);
  }

  /** Looks at the files now; what has changed is in use when it returns. */
  refresh(): void {
    const versions = this.#look();
    if (versions === this.#versions) return;
    this.#versions = versions;
    try {
      this.#context = read(this.#options);
    } catch (error) {
      this.#onProblem(`${(error as Error).message}; the certificate of before stays in use`);
      return;
    }
    for (const listener of this.#listeners) listener(this.#context);
  }

  /** @returns ends it */
  watch(listener: (context: SecureContextOptions) => void): () => void {
    this.#listeners.add(listener);
    this.#timer ??= setInterval(() => this.refresh(), LOOK_MS).unref();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0 || this.#timer === null) return;
      clearInterval(this.#timer);
      this.#timer = null;
    };
  }

  #look(): string {
    const { certificateFile, clientCaFile, keystore, privateKeyFile } = this.#options;
    return [certificateFile, privateKeyFile, keystore, clientCaFile].map(versionOf).join('\n');
  }
}

function versionOf(path: string | null): string {
  if (path === null) return '';
  try {
    const { ctimeNs, ino, mtimeNs, size } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** @throws ServingError CONFIG_INVALID */
function read(options: TlsOptions): SecureContextOptions {
  const { certificateFile, clientCaFile, keystore, keystorePass, privateKeyFile } = options;
  const ca = clientCaFile === null ? {} : { ca: bytesOf('client_ca_file', clientCaFile, false) };
  if (keystore !== null) {
    const pfx = bytesOf('keystore', keystore, true);
    const hint = 'it must be PKCS#12, and keystore_pass its password';
    return checked({ pfx, passphrase: keystorePass, ...ca }, `keystore: ${keystore}`, hint);
  }
  if (certificateFile === null || privateKeyFile === null) {
    throw new ServingError(
      'CONFIG_INVALID',
      'An https:// address needs certificate_file and private_key_file, or keystore',
    );
  }
  const cert = bytesOf('certificate_file', certificateFile, false);
  const key = bytesOf('private_key_file', privateKeyFile, true);
  const hint = 'both must be PEM, the key without a password and that of the certificate';
  return checked({ cert, key, ...ca }, `certificate_file: ${certificateFile} and ${privateKeyFile}`, hint);
}

/** @throws ServingError CONFIG_INVALID */
function checked(context: SecureContextOptions, what: string, hint: string): SecureContextOptions {
  try {
    createSecureContext(context);
    return context;
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'they are malformed';
    throw new ServingError('CONFIG_INVALID', `${what} cannot be used (${reason}): ${hint}`);
  }
}

/** @throws ServingError CONFIG_INVALID */
function bytesOf(key: string, path: string, isSecret: boolean): Buffer {
  const refuse = (reason: string): never => {
    throw new ServingError('CONFIG_INVALID', `${key}: ${path} ${reason}`);
  };
  let fd = -1;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    return refuse(`cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) refuse('is not a file');
    if (stat.size > MAX_FILE_BYTES) refuse(`has ${stat.size} bytes, at most ${MAX_FILE_BYTES} are read`);
    if (isSecret && (stat.mode & FORBIDDEN_BITS) !== 0)
      refuse(`may be read or written by others (mode ${(stat.mode & 0o777).toString(8)}): chmod 600 it`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
