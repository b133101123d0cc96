/**
 * One key, and the name of its kind of permission.
 *
 * A key is kept as its SHA-256: keys that `shardserve key` makes have 256 random bits, so that no slow hash is needed.
 */
import { createHash } from 'node:crypto';

export const SCOPES = ['infer', 'manage', 'metrics'] as const;
/** infer: ask models; manage: register, scale, remove and describe them; metrics: read them. */
export type Scope = (typeof SCOPES)[number];

/** null: no limit. */
export interface KeyLimits {
  readonly requestsPerMinute: number | null;
  /** Prompts and answers together. */
  readonly tokensPerMinute: number | null;
  /** Requests at once. */
  readonly concurrentRequests: number | null;
}

export const NO_LIMITS: KeyLimits = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrentRequests: null,
};

export interface AccessKey {
  /** For logs; never secret. */
  readonly name: string;
  readonly digest: Buffer;
  readonly scopes: readonly Scope[];
  /** Values of x-priority that its requests may have; null: any. */
  readonly priority: { readonly min: number; readonly max: number } | null;
  /** Instead of the server's for every key; absent: those. */
  readonly limits?: Partial<KeyLimits>;
  /** Its share of starts, beside other keys whose requests wait too; absent: 1. */
  readonly weight?: number;
}

export function digestOf(secret: string): Buffer {
  return createHash('sha256').update(secret, 'utf8').digest();
}

/** Names a key to other parts, such as the prefix cache; nothing follows from it. */
export function idOf(key: AccessKey): string {
  return createHash('sha256').update('id\0').update(key.digest).digest('hex').slice(0, 32);
}
