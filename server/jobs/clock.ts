/** Time as the batch loop sees it, so that a test can hold it still. */
export interface Clock {
  /** Rises, from an arbitrary start. */
  nowMs(): number;
  /** Calls `action` once at that time (at once if it has passed); returns how to call it off. */
  at(timeMs: number, action: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  at(timeMs, action) {
    // A timer may fire a fraction of a millisecond early; then there would be nothing to do yet.
    const timer = setTimeout(action, Math.max(0, Math.ceil(timeMs - performance.now())));
    return () => clearTimeout(timer);
  },
};
