/**
 * Keys of the configuration about who may do what.
 *
 * Source  names: SERVING_API_KEY as its own; VLLM_API_KEY and API_KEY are what vLLM and Text Generation Inference read
 */
import { type KeyRow, serverKey } from './key-row.js';
import { boolean, file, folders, integer, oneOf, pattern, someOf, words } from './value-types.js';

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
    'key_requests_per_minute',
    'keyRequestsPerMinute',
    integer(0, 1_000_000_000),
    0,
    'requests that each key may send in a minute, and all together that come without one (ours); more are refused with 429; 0: no limit; `limits` of an entry of key_file goes before',
  ),
  serverKey(
    'key_tokens_per_minute',
    'keyTokensPerMinute',
    integer(0, 1_000_000_000),
    0,
    'the same of tokens, of prompts and answers (ours); what an answer uses beyond is made up by waiting',
  ),
  serverKey(
    'key_concurrent_requests',
    'keyConcurrentRequests',
    integer(0, 1_000_000_000),
    0,
    'the same of requests at once (ours)',
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
    'certificate_file',
    'certificateFile',
    file(),
    null,
    'PEM certificate, with those between it and the root, of https:// addresses (HTTP and gRPC); read again when it changes',
  ),
  serverKey(
    'private_key_file',
    'privateKeyFile',
    file(),
    null,
    'its key, PEM without a password, readable by owner and group alone; read again when it changes',
  ),
  serverKey('keystore', 'keystore', file(), null, 'both in one PKCS#12 file, instead of the two'),
  serverKey(
    'keystore_pass',
    'keystorePass',
    pattern(/^[^\0]{0,512}$/, 'a password of at most 512 characters'),
    'changeit',
    'password of keystore',
    {
      secret: true,
    },
  ),
  serverKey('keystore_type', 'keystoreType', oneOf('PKCS12'), 'PKCS12', 'kind of keystore'),
  serverKey(
    'client_ca_file',
    'clientCaFile',
    file(),
    null,
    'PEM certificates by which those of clients are checked: https:// addresses then speak to nobody else (ours); keys are asked for as ever',
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
