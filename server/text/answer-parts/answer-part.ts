/**
 * What a model's text consists of: what it thought, what it says, the functions that it calls.
 *
 * In      pieces of text, cut anywhere
 * Out     parts in order; neighbours of one kind are joined, so that the same text gives the same parts however it was cut, once they
 *         are joined by joinParts
 * Limits  a parser holds back the beginning of a marker, white space at the end of a text, and a call until its name is known
 * Errors  none: what does not parse as a call is content
 */

export type AnswerPart =
  | { kind: 'reasoning'; text: string }
  | { kind: 'content'; text: string }
  /** A call begins; its index counts from 0. */
  | { kind: 'call'; index: number; name: string; id?: string }
  /** More of the JSON text of a call's arguments. */
  | { kind: 'arguments'; index: number; text: string };

/** Reads one answer. */
export interface AnswerParser {
  push(text: string): AnswerPart[];
  /** The answer has ended. The last call. */
  flush(): AnswerPart[];
}

/** Neighbours of one kind as one: what a whole answer says. */
export function joinParts(parts: readonly AnswerPart[]): AnswerPart[] {
  const joined: AnswerPart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (last !== undefined && last.kind === part.kind && 'text' in last && 'text' in part) {
      joined[joined.length - 1] = { ...last, text: last.text + part.text };
    } else joined.push(part);
  }
  return joined;
}

type TextKind = 'reasoning' | 'content';

/**
 * Collects parts. White space between two sections belongs to the format, not to the text: what ends a section is held until text
 * follows, and what begins one (but for an answer's first content) is dropped.
 */
export class PartWriter {
  #parts: AnswerPart[] = [];
  #held = '';
  #isBegun = true;
  #calls = 0;

  text(kind: TextKind, text: string): void {
    let more = text;
    if (!this.#isBegun) {
      more = more.trimStart();
      if (more === '') return;
      this.#isBegun = true;
    }
    const whole = this.#held + more;
    const kept = whole.trimEnd();
    this.#held = whole.slice(kept.length);
    if (kept !== '') this.#parts.push({ kind, text: kept });
  }

  /** Another section begins. */
  endSection(): void {
    this.#held = '';
    this.#isBegun = false;
  }

  call(name: string, id?: string): void {
    this.endSection();
    this.#parts.push({ kind: 'call', index: this.#calls++, name, ...(id !== undefined && { id }) });
  }

  /** More of the call that began last. */
  arguments(text: string): void {
    if (text !== '') this.#parts.push({ kind: 'arguments', index: this.#calls - 1, text });
  }

  /** The answer ends with what it ends with. */
  end(kind: TextKind): void {
    if (this.#held !== '' && this.#isBegun) this.#parts.push({ kind, text: this.#held });
    this.#held = '';
  }

  take(): AnswerPart[] {
    const parts = joinParts(this.#parts);
    this.#parts = [];
    return parts;
  }
}

/** A marker in a text, or how much of the text's end may become one. */
export type Found = { at: number; marker: string } | { openUnits: number };

/** The first of the markers in `text`; of two at one place the longer. */
export function findMarker(text: string, markers: readonly string[]): Found {
  let found: { at: number; marker: string } | null = null;
  for (const marker of markers) {
    const at = text.indexOf(marker);
    if (at < 0) continue;
    if (found === null || at < found.at || (at === found.at && marker.length > found.marker.length)) {
      found = { at, marker };
    }
  }
  if (found !== null) return found;
  let openUnits = 0;
  for (const marker of markers) {
    for (let units = Math.min(marker.length - 1, text.length); units > openUnits; units--) {
      if (text.endsWith(marker.slice(0, units))) openUnits = units;
    }
  }
  return { openUnits };
}
