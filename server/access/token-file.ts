/**
 * TorchServe's tokens: one to ask models, one to manage them, each for a while, and the API key that makes new ones.
 *
 * In      a path; how long a token lives
 * Out     keys that have not expired; the file {"management", "inference", "API"}, mode 0600, written anew with each renewal
 * Limits  one token of each kind: a renewal ends the one before
 * Errors  CONFIG_INVALID: the file cannot be written
 * Source  TorchServe's token authorization: the file's fields; a token of its has 48 bits, these have 192
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { ServingError } from '../../proto/errors.js';
import type { KeySource } from './access-control.js';
import { type AccessKey, digestOf, type Scope } from './access-key.js';

const TOKEN_BYTES = 24;
const MODE = 0o600;
export const TOKEN_KINDS = ['management', 'inference'] as const;
export type TokenKind = (typeof TOKEN_KINDS)[number];

const SCOPE: Readonly<Record<TokenKind, Scope>> = { management: 'manage', inference: 'infer' };

interface Token {
  readonly text: string;
  readonly key: AccessKey;
  readonly expiresAtMs: number;
}

export class TokenFile implements KeySource {
  readonly #path: string;
  readonly #lifeMs: number;
  readonly #nowMs: () => number;
  readonly #apiKey = newText();
  readonly #tokens = new Map<TokenKind, Token>();

  /** @throws ServingError CONFIG_INVALID */
  constructor(path: string, lifeMs: number, nowMs: () => number = Date.now) {
    this.#path = path;
    this.#lifeMs = lifeMs;
    this.#nowMs = nowMs;
    for (const kind of TOKEN_KINDS) this.#tokens.set(kind, this.#newToken(kind));
    this.#write();
  }

  keys(): readonly AccessKey[] {
    const nowMs = this.#nowMs();
    return [...this.#tokens.values()].filter((token) => token.expiresAtMs > nowMs).map(({ key }) => key);
  }

  isApiKey(given: string): boolean {
    return timingSafeEqual(digestOf(this.#apiKey), digestOf(given));
  }

  /** @throws ServingError CONFIG_INVALID */
  renew(kind: TokenKind): void {
    this.#tokens.set(kind, this.#newToken(kind));
    this.#write();
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }

  #newToken(kind: TokenKind): Token {
    const text = newText();
    const key: AccessKey = { name: kind, digest: digestOf(text), scopes: [SCOPE[kind]], priority: null };
    return { text, key, expiresAtMs: this.#nowMs() + this.#lifeMs };
  }

  #write(): void {
    const told = (kind: TokenKind) => {
      const { expiresAtMs, text } = this.#tokens.get(kind)!;
      return { key: text, 'expiration time': new Date(expiresAtMs).toISOString() };
    };
    const content = {
      management: told('management'),
      inference: told('inference'),
      API: { key: this.#apiKey },
    };
    const beside = `${this.#path}.${process.pid}`;
    try {
      // Whatever lies there with whatever mode is replaced, never written into.
      rmSync(beside, { force: true });
      writeFileSync(beside, `${JSON.stringify(content, null, 2)}\n`, { mode: MODE, flag: 'wx' });
      renameSync(beside, this.#path);
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
      throw new ServingError('CONFIG_INVALID', `the tokens cannot be written to ${this.#path}: ${reason}`, {
        cause,
      });
    }
  }
}

const newText = (): string => randomBytes(TOKEN_BYTES).toString('base64url');
