/**
 * GPT-OSS's channels: <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>
 *
 * analysis is what it thought, final what it says, and a message to functions.NAME a call; a commentary to nobody is said, too.
 *
 * In      pieces of text, special tokens included; the prompt ends with <|start|>assistant
 * Out     AnswerParts
 * Errors  none: a text without any header is content
 * Source  OpenAI's harmony response format
 */
import { type AnswerParser, type AnswerPart, findMarker, PartWriter } from './answer-part.js';

const MESSAGE = '<|message|>';
const ENDS = ['<|end|>', '<|call|>', '<|return|>', '<|start|>'];
const CHANNEL = '<|channel|>';
const FUNCTION = /to=functions\.([A-Za-z0-9_.-]+)/;
/** A header is a few words. */
const MAX_HEADER_CHARACTERS = 1024;

type Section = 'reasoning' | 'content' | 'arguments' | 'nothing';

export class Harmony implements AnswerParser {
  readonly #parts = new PartWriter();
  #text = '';
  /** null: in a header. */
  #section: Section | null = null;
  #ended = false;

  push(text: string): AnswerPart[] {
    this.#text += text;
    while (this.#step()) {}
    return this.#parts.take();
  }

  flush(): AnswerPart[] {
    this.#ended = true;
    while (this.#step()) {}
    // A header that never became one: no channels at all.
    if (this.#section === null && !this.#text.includes('<|')) this.#parts.text('content', this.#text);
    if (this.#section === 'reasoning' || this.#section === 'content') this.#parts.end(this.#section);
    this.#text = '';
    return this.#parts.take();
  }

  #step(): boolean {
    return this.#section === null ? this.#readHeader() : this.#readSection(this.#section);
  }

  #readHeader(): boolean {
    const at = this.#text.indexOf(MESSAGE);
    if (at < 0) {
      if (this.#text.length < MAX_HEADER_CHARACTERS) return false;
      this.#section = 'content';
      return true;
    }
    const header = this.#text.slice(0, at);
    this.#text = this.#text.slice(at + MESSAGE.length);
    const to = FUNCTION.exec(header)?.[1];
    const channel = header.includes(CHANNEL)
      ? header.slice(header.indexOf(CHANNEL) + CHANNEL.length)
      : header;
    this.#parts.endSection();
    if (to !== undefined) {
      this.#parts.call(to);
      this.#section = 'arguments';
    } else if (/^\s*analysis/.test(channel)) this.#section = 'reasoning';
    else this.#section = /\bto=/.test(header) ? 'nothing' : 'content';
    return true;
  }

  #readSection(section: Section): boolean {
    const found = findMarker(this.#text, ENDS);
    const isEnd = 'marker' in found;
    const free = isEnd ? found.at : this.#text.length - (this.#ended ? 0 : found.openUnits);
    const text = this.#text.slice(0, free);
    this.#text = this.#text.slice(free + (isEnd ? found.marker.length : 0));
    if (section === 'arguments') this.#parts.arguments(text);
    else if (section !== 'nothing') this.#parts.text(section, text);
    if (!isEnd) return false;
    this.#section = null;
    this.#parts.endSection();
    return true;
  }
}
