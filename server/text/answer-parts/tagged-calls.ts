/**
 * Calls as JSON objects in a text, each format as its models were tuned on it:
 *
 *   hermes   <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number of them, text before and between (Hermes 2 Pro, Qwen 2.5 and 3)
 *   llama3   the whole answer is {"name": …, "parameters": {…}}, or several with ";" between; <|python_tag|> may stand before (Llama 3.1, 3.2)
 *   list     the whole answer is [{"name": …, "parameters": {…}}, …]: what a constrained answer is made to be (tool_choice required)
 *
 * In      pieces of text
 * Out     AnswerParts
 * Errors  none: what is no call is content, markers included
 * Source  the models' chat templates and cards; names as in vLLM's --tool-call-parser
 */
import { type AnswerParser, type AnswerPart, findMarker, PartWriter } from './answer-part.js';
import { JsonCall } from './json-call.js';

interface CallFormat {
  /** What opens a call; null: calls are the whole answer, or there are none. */
  open: string | null;
  /** Dropped where it stands before the first call. */
  prefix: string | null;
  /** What stands before the first call of a list. */
  listOpen: string | null;
  /** Between or behind calls, dropped like white space. */
  fillers: readonly string[];
}

export const HERMES: CallFormat = {
  open: '<tool_call>',
  prefix: null,
  listOpen: null,
  fillers: ['</tool_call>'],
};
export const LLAMA3: CallFormat = { open: null, prefix: '<|python_tag|>', listOpen: null, fillers: [';'] };
export const LIST: CallFormat = { open: null, prefix: null, listOpen: '[', fillers: [',', ']'] };

export class TaggedCalls implements AnswerParser {
  readonly #format: CallFormat;
  readonly #parts = new PartWriter();
  #text = '';
  #call: JsonCall | null = null;
  #isTold = false;
  #hasCalled = false;
  /** Whether the answer is calls, in a format without a marker. */
  #mode: 'open' | 'calls' | 'content';
  #ended = false;

  constructor(format: CallFormat) {
    this.#format = format;
    this.#mode = format.open === null ? 'open' : 'content';
  }

  push(text: string): AnswerPart[] {
    this.#text += text;
    while (this.#step()) {}
    return this.#parts.take();
  }

  flush(): AnswerPart[] {
    this.#ended = true;
    while (this.#step()) {}
    if (this.#call !== null && !this.#isTold) this.#parts.text('content', this.#opened + this.#call.raw);
    this.#parts.text('content', this.#text);
    this.#parts.end('content');
    this.#text = '';
    return this.#parts.take();
  }

  /** What was dropped for a call that turns out to be none. */
  #opened = '';

  #step(): boolean {
    if (this.#call !== null) return this.#readCall(this.#call);
    if (this.#text === '') return false;
    if (this.#mode === 'open') return this.#readStart();
    if (this.#mode === 'calls') return this.#readBetween();
    return this.#readContent();
  }

  /** Is the whole answer calls? */
  #readStart(): boolean {
    const { listOpen, prefix } = this.#format;
    const at = this.#text.search(/\S/);
    if (at < 0) return false;
    const rest = this.#text.slice(at);
    for (const opening of [prefix, listOpen]) {
      if (opening === null) continue;
      if (rest.startsWith(opening)) {
        this.#opened = this.#text.slice(0, at + opening.length);
        this.#text = rest.slice(opening.length);
        this.#mode = 'calls';
        return true;
      }
      if (opening.startsWith(rest) && !this.#ended) return false;
    }
    this.#mode = rest.startsWith('{') && listOpen === null ? 'calls' : 'content';
    return true;
  }

  #readBetween(): boolean {
    const trimmed = this.#text.trimStart();
    this.#opened += this.#text.slice(0, this.#text.length - trimmed.length);
    this.#text = trimmed;
    if (trimmed === '') return false;
    if (trimmed[0] === '{') {
      this.#call = new JsonCall();
      return true;
    }
    const filler = this.#hasCalled
      ? this.#format.fillers.find((text) => trimmed.startsWith(text))
      : undefined;
    if (filler !== undefined) {
      this.#text = trimmed.slice(filler.length);
      return true;
    }
    this.#parts.text('content', this.#hasCalled ? '' : this.#opened);
    this.#mode = 'content';
    return true;
  }

  #readContent(): boolean {
    const { fillers, open } = this.#format;
    if (open === null) {
      this.#parts.text('content', this.#text);
      this.#text = '';
      return false;
    }
    const found = findMarker(this.#text, this.#hasCalled ? [open, ...fillers] : [open]);
    if ('marker' in found) {
      this.#parts.text('content', this.#text.slice(0, found.at));
      this.#text = this.#text.slice(found.at + found.marker.length);
      if (found.marker === open) {
        this.#opened = open;
        this.#call = new JsonCall();
      } else this.#parts.endSection();
      return true;
    }
    const free = this.#text.length - (this.#ended ? 0 : found.openUnits);
    this.#parts.text('content', this.#text.slice(0, free));
    this.#text = this.#text.slice(free);
    return false;
  }

  #readCall(call: JsonCall): boolean {
    const used = call.push(this.#text);
    this.#text = this.#text.slice(used);
    if (call.name !== null && !this.#isTold) {
      this.#parts.call(call.name);
      this.#isTold = true;
      this.#hasCalled = true;
    }
    this.#parts.arguments(call.takeArguments());
    if (call.state !== 'done' && call.state !== 'bad') return false;
    if (!this.#isTold) {
      this.#parts.text('content', this.#opened + call.raw);
      this.#mode = 'content';
    }
    this.#opened = '';
    this.#call = null;
    this.#isTold = false;
    return this.#text !== '';
  }
}
