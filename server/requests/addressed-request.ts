/** Where a request goes, and how urgent it is: what every kind of request has. Plain data. */

/** `priority` of a request that names none, as in DJLServing. */
export const DEFAULT_PRIORITY = 3;

/** Whose request it is, where keys are asked for. */
export interface Tenant {
  readonly id: string;
  /** Its share of starts, beside those of others. */
  readonly weight: number;
}

export interface AddressedRequest {
  /** What is asked: which engine can answer it, and which events do. */
  kind: 'generate' | 'embed' | 'predict' | 'invoke';
  requestId: string;
  model: string;
  /** null: any. */
  version: string | null;
  /** Whole number, lower is served first; absent: DEFAULT_PRIORITY. */
  priority?: number;
  /** Absent: it came without a key. */
  tenant?: Tenant;
  /** The client's deadline, counted from submit: REQUEST_TIMEOUT, and a job that still waits never runs. Absent or null: none. */
  timeoutMs?: number | null;
}
