/**
 * What the server's sockets gave while it was not held: whole steps between two tokens of each stream.
 *
 * In      when each token of each stream came; from when to when the server ran
 * Out     the gaps; null where a stream has too few tokens there: the machine stood still, or the stream ended
 * Pure    the measurement is side-by-side.ts
 */

export interface Span {
  fromMs: number;
  toMs: number;
}

/** A slice's: the token in whose step the server was held, and the next, whose step began then. */
export const UNCOUNTED_TOKENS = 2;
/** Two gaps at least, or one late token would be the slice. */
const MIN_TOKENS = UNCOUNTED_TOKENS + 2;

export function gapsIn(streams: readonly (readonly number[])[], { fromMs, toMs }: Span): number[] | null {
  const inside = streams.map((tokens) => tokens.filter((timeMs) => timeMs > fromMs && timeMs <= toMs));
  if (inside.some((tokens) => tokens.length < MIN_TOKENS)) return null;
  return inside.flatMap((tokens) => {
    const counted = tokens.slice(UNCOUNTED_TOKENS - 1);
    return counted.slice(1).map((timeMs, index) => timeMs - counted[index]!);
  });
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
