/**
 * Ends a text before the first stop string, wherever the tokens' borders fall, and never lets a part of one out.
 *
 * In      pieces of text as the detokeniser gives them
 * Out     text that is free to send: all but the longest end of it that may still become a stop string
 * Limits  holds back less than the longest stop string; cost a piece: (piece + longest stop string) × number of stop strings
 * Errors  none; push after a stop is a bug
 * Pure    no clock, no file
 */
import assert from 'node:assert/strict';

export class StopStrings {
  readonly #strings: readonly string[];
  readonly #includeStopString: boolean;
  /** The end of the text that is the beginning of a stop string. */
  #held = '';
  #stopped = false;
  /** The one that ended the text; null: none did. */
  found: string | null = null;

  /** @param strings empty ones are ignored; the one that is complete first wins, and of those at one place the earliest start */
  constructor(strings: readonly string[], includeStopString: boolean) {
    this.#strings = strings.filter((text) => text !== '');
    this.#includeStopString = includeStopString;
  }

  /**
   * Takes the next piece.
   *
   * @returns text that is free to send; `stopped` when a stop string is complete: the text before it, and it if included, is in
   *          `text`, what follows it is dropped
   */
  push(text: string): { text: string; stopped: boolean } {
    assert(!this.#stopped, 'push after a stop string');
    if (this.#strings.length === 0 || text === '') return { text, stopped: false };
    const pending = this.#held + text;
    const found = this.#firstComplete(pending);
    if (found !== null) {
      this.#stopped = true;
      this.#held = '';
      this.found = pending.slice(found.start, found.end);
      return { text: pending.slice(0, this.#includeStopString ? found.end : found.start), stopped: true };
    }
    const heldUnits = this.#longestOpenEnd(pending);
    this.#held = pending.slice(pending.length - heldUnits);
    return { text: pending.slice(0, pending.length - heldUnits), stopped: false };
  }

  /** What is held back: the text ended before it became a stop string. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  /** The stop string that ends first, as if the text came one character at a time; so token borders change nothing. */
  #firstComplete(text: string): { start: number; end: number } | null {
    let found: { start: number; end: number } | null = null;
    for (const stop of this.#strings) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (found === null || end < found.end || (end === found.end && start < found.start))
        found = { start, end };
    }
    return found;
  }

  #longestOpenEnd(text: string): number {
    let longest = 0;
    for (const stop of this.#strings) {
      for (let units = Math.min(stop.length - 1, text.length); units > longest; units -= 1) {
        if (text.endsWith(stop.slice(0, units))) longest = units;
      }
    }
    return longest;
  }
}
