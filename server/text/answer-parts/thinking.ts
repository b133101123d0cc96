/**
 * What a model thought, between two markers at the start of its answer; the rest goes to a parser of calls.
 *
 * In      pieces of text
 * Out     AnswerParts
 * Errors  none: an answer that ends while it thinks is reasoning alone
 * Source  the models' cards and chat templates; names as in vLLM's --reasoning-parser
 */
import { type AnswerParser, type AnswerPart, findMarker, PartWriter } from './answer-part.js';

export interface ThinkingFormat {
  open: string;
  close: string;
  /** The prompt ends with the opening marker, so that the answer begins within. */
  startsInside: boolean;
}

export class Thinking implements AnswerParser {
  readonly #format: ThinkingFormat;
  readonly #rest: AnswerParser;
  readonly #parts = new PartWriter();
  #text = '';
  #state: 'open' | 'inside' | 'outside' = 'open';
  #ended = false;
  /** White space behind the reasoning belongs to the format. */
  #dropsSpace = false;

  constructor(format: ThinkingFormat, rest: AnswerParser) {
    this.#format = format;
    this.#rest = rest;
  }

  push(text: string): AnswerPart[] {
    if (this.#state === 'outside') return this.#passOn(text);
    this.#text += text;
    if (this.#state === 'open') this.#readStart();
    // readStart may have gone on.
    const state = this.#state as 'open' | 'inside' | 'outside';
    if (state === 'inside') this.#readInside();
    if ((this.#state as string) !== 'outside') return this.#parts.take();
    const rest = this.#text;
    this.#text = '';
    return [...this.#parts.take(), ...this.#passOn(rest)];
  }

  flush(): AnswerPart[] {
    this.#ended = true;
    const parts = this.push('');
    this.#parts.end('reasoning');
    return [...parts, ...this.#parts.take(), ...this.#rest.flush()];
  }

  #passOn(text: string): AnswerPart[] {
    const kept = this.#dropsSpace ? text.trimStart() : text;
    if (kept === '') return [];
    this.#dropsSpace = false;
    return this.#rest.push(kept);
  }

  #readStart(): void {
    const { open, startsInside } = this.#format;
    const trimmed = this.#text.trimStart();
    if (trimmed.startsWith(open)) {
      this.#text = trimmed.slice(open.length);
      this.#state = 'inside';
    } else if (!open.startsWith(trimmed) || this.#ended) {
      this.#state = startsInside ? 'inside' : 'outside';
    }
    if (this.#state === 'inside') this.#parts.endSection();
  }

  #readInside(): void {
    const { close } = this.#format;
    const found = findMarker(this.#text, [close]);
    const isClosed = 'marker' in found;
    const free = isClosed ? found.at : this.#text.length - (this.#ended ? 0 : found.openUnits);
    this.#parts.text('reasoning', this.#text.slice(0, free));
    this.#text = this.#text.slice(free + (isClosed ? close.length : 0));
    if (!isClosed) return;
    this.#parts.endSection();
    this.#state = 'outside';
    this.#dropsSpace = true;
  }
}
