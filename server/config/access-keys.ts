/**
 * Keys of the configuration about who may do what.
 *
 * Source  names: SERVING_API_KEY as its own; VLLM_API_KEY and API_KEY are what vLLM and Text Generation Inference read
 */
import { type KeyRow, serverKey } from './key-row.js';
import { boolean, file, folders, pattern, someOf, words } from './value-types.js';

const secret = pattern(/^[\x21-\x7e]{8,512}$/, 'a key of 8 … 512 printable characters without blanks');

export const ACCESS_KEYS: readonly KeyRow[] = [
  serverKey('api_key', 'apiKey', secret, null, 'key that may ask models (scope infer)', {
    env: ['VLLM_API_KEY', 'API_KEY'],
    secret: true,
  }),
  serverKey(
    'management_key',
    'managementKey',
    secret,
    null,
    'key that may do all: ask models, manage them, read metrics (ours)',
    { secret: true },
  ),
  serverKey(
    'key_file',
    'keyFile',
    file(),
    null,
    'file of hashed keys with scopes and priorities, mode 0600, read again when it changes (ours); `shardserve key` makes entries',
  ),
  serverKey(
    'anonymous_scopes',
    'anonymousScopes',
    someOf('infer', 'manage', 'metrics'),
    null,
    'what needs no key (ours); default: everything while there are no keys, nothing otherwise',
  ),
  serverKey(
    'insecure',
    'insecure',
    boolean(),
    false,
    'what needs no key may be had from other machines too (ours); otherwise such a start is refused',
  ),
  serverKey(
    'host_names',
    'hostNames',
    words('host names without port, divided by commas or white space'),
    [],
    'names by which requests without a key may ask for a server on a loopback address, besides localhost and addresses (ours)',
  ),
  serverKey(
    'registration_folders',
    'registrationFolders',
    folders(),
    [],
    'folders below which a request may register a model that lies on this host, besides model_store (ours); `*`: anywhere',
  ),
];
