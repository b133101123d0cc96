/**
 * Token ids to text, one at a time: what became certain with each token, so that it can be sent at once.
 *
 * In      ids as they are chosen; the last ids of the prompt as context, so that spaces come out as in one decode of both
 * Out     pieces whose concatenation is the decode of all ids
 * Limits  a push decodes at most WINDOW_TOKENS tokens, however long the text has become
 * Errors  none; an id outside the vocabulary is no text
 * Pure    no clock, no file
 *
 * How: decode a short window of the last ids and send what is longer than what was sent of it. Bytes of an incomplete
 * UTF-8 sequence show as ONE replacement character at the end of a decode, so everything before it is certain, and it is
 * held back. A window of four tokens holds at least the last four bytes, so it always holds the start of the last character,
 * and a decode of it ends in the same state as a decode of everything: UTF-8 finds its place again at each lead byte.
 * What the start of the window decodes to may be wrong (a cut character, a stripped space) but was sent before.
 */

/** Text of a growing list of ids. */
export interface IncrementalDetokenizer {
  /** Text that became certain; '' while a character is incomplete. */
  push(id: number): string;
  /** What is left, as the replacement character when no more bytes can follow. The last call. */
  flush(): string;
}

const REPLACEMENT = '\ufffd';
/** Ids kept when the window is cut: at least the four bytes of the longest character. */
const KEPT_TOKENS = 4;
const WINDOW_TOKENS = 12;

/**
 * Decodes a window of ids.
 *
 * In every decoder in use the text of a token depends on its neighbours and on being the first, never on tokens further back.
 */
export class WindowDetokenizer implements IncrementalDetokenizer {
  readonly #decode: (ids: readonly number[]) => string;
  /** Whether an id is text at all: in the vocabulary, not empty, not a skipped special token. */
  readonly #hasText: (id: number) => boolean;
  #window: number[];
  /** UTF-16 units of decode(window) that were sent, or belong to the context. */
  #sentUnits: number;

  constructor(
    decode: (ids: readonly number[]) => string,
    hasText: (id: number) => boolean,
    context: readonly number[],
  ) {
    this.#decode = decode;
    this.#hasText = hasText;
    this.#window = context.filter(hasText).slice(-KEPT_TOKENS);
    this.#sentUnits = certainUnits(this.#decode(this.#window));
  }

  push(id: number): string {
    if (!this.#hasText(id)) return '';
    if (this.#window.length >= WINDOW_TOKENS) {
      this.#window = this.#window.slice(-KEPT_TOKENS);
      this.#sentUnits = certainUnits(this.#decode(this.#window));
    }
    this.#window.push(id);
    const text = this.#decode(this.#window);
    return this.#take(text, certainUnits(text));
  }

  flush(): string {
    const text = this.#decode(this.#window);
    return this.#take(text, text.length);
  }

  #take(text: string, units: number): string {
    if (units <= this.#sentUnits) return '';
    const piece = text.slice(this.#sentUnits, units);
    this.#sentUnits = units;
    return piece;
  }
}

/** UTF-16 units of a decode that no later token can change. */
function certainUnits(text: string): number {
  return text.endsWith(REPLACEMENT) ? text.length - 1 : text.length;
}
