/**
 * A request as its client sent it, for a model that reads it by itself: a handler. Plain data, the same for every dialect.
 */
import type { AddressedRequest } from './addressed-request.js';

/** One part of a body. */
export interface ContentPart {
  /** The name of a form's field; '': the whole body. */
  key: string;
  bytes: Uint8Array;
  /** As the client said, in lower case and without parameters; null: it did not. */
  contentType: string | null;
}

export interface InvokeRequest extends AddressedRequest {
  kind: 'invoke';
  content: readonly ContentPart[];
  /** Headers in lower case, but for those with keys, and then parameters of the query. */
  properties: Readonly<Record<string, string>>;
}

/** How an answer begins. */
export interface ContentHead {
  status: number;
  contentType: string;
  headers: Readonly<Record<string, string>>;
  /** Chunks are to be sent as they come. */
  isStream: boolean;
}
