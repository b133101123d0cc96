/**
 * What the server's sockets gave while it was not held: whole steps between two tokens of each stream.
 *
 * In      when each token of each stream came; from when to when the server ran
 * Out     milliseconds a step, and the gaps
 * Errors  Error when a stream has too few tokens there, or ended
 * Pure    the measurement is side-by-side.ts
 */

export interface Span {
  fromMs: number;
  toMs: number;
}

/** Of a slice: the token in whose step the server was held, and the next, whose step began then. */
export const UNCOUNTED_TOKENS = 2;
/** Two gaps at least, or one late token would be the slice. */
const MIN_TOKENS = UNCOUNTED_TOKENS + 2;

export function gapsIn(streams: readonly (readonly number[])[], { fromMs, toMs }: Span): number[] {
  return streams.flatMap((tokens) => {
    const inside = tokens.filter((timeMs) => timeMs > fromMs && timeMs <= toMs);
    if (inside.length < MIN_TOKENS) {
      throw new Error(
        `${inside.length} tokens of a stream while ${Math.round(toMs - fromMs)} ms were measured: more --steps or fewer --repeat`,
      );
    }
    const counted = inside.slice(UNCOUNTED_TOKENS - 1);
    return counted.slice(1).map((timeMs, index) => timeMs - counted[index]!);
  });
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
