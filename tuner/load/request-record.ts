/**
 * What is known of one request when it has ended: a JSON line, units in the keys.
 *
 * In      times of the load's clock
 * Out     RequestRecord
 */
export interface RequestRecord {
  index: number;
  /** When it was meant to start; a closed loop means it when it starts. */
  intended_ms: number;
  started_ms: number;
  /** null: it gave no token and no byte. */
  first_token_ms: number | null;
  ended_ms: number;
  /** Between two tokens of a stream. */
  token_gaps_ms: number[];
  tokens_in: number | null;
  tokens_out: number | null;
  /** null: it went well; else the server's code, or the client's word for what happened. */
  error: string | null;
  /** In a window that counts. */
  phase: 'warm-up' | 'window' | 'unfinished';
  window: number | null;
}

/** From the intended start: what waited in the client waited. */
export const latencyMs = (record: RequestRecord): number => record.ended_ms - record.intended_ms;
export const firstTokenMs = (record: RequestRecord): number | null =>
  record.first_token_ms === null ? null : record.first_token_ms - record.intended_ms;
