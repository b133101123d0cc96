/** TorchServe's tokens: what they open, how long, and who may renew them. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AccessControl } from '../../../../server/access/access-control.js';
import { TokenFile } from '../../../../server/access/token-file.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-tokens-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const NO_KEYS = { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: ['metrics'] };

describe('tokens', () => {
  it('open what they are for, until they expire or are renewed', () => {
    const file = path.join(folder, 'key_file.json');
    writeFileSync(file, 'of a server that was killed', { mode: 0o644 });
    let nowMs = 0;
    const tokens = new TokenFile(file, 60_000, () => nowMs);
    const access = new AccessControl(NO_KEYS, () => {}, undefined, [tokens]);
    const text = () => JSON.parse(readFileSync(file, 'utf8'));
    const scopes = (secret: string) => access.keyOf({ authorization: `Bearer ${secret}` })?.scopes;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(access.anonymousScopes).toEqual(['metrics']);
    const { API, inference, management } = text();
    expect(inference['expiration time']).toBe('1970-01-01T00:01:00.000Z');
    expect([scopes(inference.key), scopes(management.key)]).toEqual([['infer'], ['manage']]);
    // The API key renews, and opens nothing.
    expect(() => scopes(API.key)).toThrow('not known');
    expect([tokens.isApiKey(API.key), tokens.isApiKey(inference.key)]).toEqual([true, false]);

    tokens.renew('inference');
    expect(() => scopes(inference.key)).toThrow('not known');
    expect(scopes(text().inference.key)).toEqual(['infer']);
    nowMs = 60_000;
    expect(() => scopes(management.key)).toThrow('not known');
    tokens.remove();
    expect(() => statSync(file)).toThrow('ENOENT');
  });

  it('that cannot be written end the start', () => {
    expect(() => new TokenFile(path.join(folder, 'absent', 'key_file.json'), 1)).toThrow(
      /the tokens cannot be written to .*: ENOENT/,
    );
  });
});
