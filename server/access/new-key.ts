/**
 * `shardserve key`: makes a key, and the entry of key_file that stands for it.
 *
 * In      --name NAME, --scopes infer,manage,metrics (default: infer)
 * Out     the key, which is shown once and kept nowhere; its entry for key_file
 * Errors  CONFIG_INVALID: a scope that is none
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { ServingError } from '../../proto/errors.js';
import { digestOf, SCOPES, type Scope } from './access-key.js';

const SECRET_BYTES = 32;

export function main(argv: readonly string[]): void {
  const { values } = parseArgs({
    args: [...argv],
    options: { name: { type: 'string', default: 'key' }, scopes: { type: 'string', default: 'infer' } },
  });
  const scopes = values.scopes.split(',').map((scope) => scope.trim());
  const wrong = scopes.find((scope) => !SCOPES.includes(scope as Scope));
  if (wrong !== undefined)
    throw new ServingError('CONFIG_INVALID', `--scopes: ${wrong} is none of ${SCOPES.join(', ')}`);
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  const entry = { name: values.name, sha256: digestOf(secret).toString('hex'), scopes };
  process.stdout.write(
    `The key, which is kept nowhere:\n${secret}\n\n` +
      `Its entry in the file that key_file names (chmod 600):\n${JSON.stringify({ keys: [entry] })}\n`,
  );
}
