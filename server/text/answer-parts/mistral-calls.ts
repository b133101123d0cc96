/**
 * Mistral's calls, in the three forms of its tokenizers:
 *
 *   v3     [TOOL_CALLS] [{"name": …, "arguments": {…}, "id": …}, …]
 *   v11    [TOOL_CALLS]name{…}[TOOL_CALLS]name{…}
 *   v13    [TOOL_CALLS]name[ARGS]{…}, with [CALL_ID]… between where the model was told ids
 *
 * In      pieces of text, special tokens included
 * Out     AnswerParts; text before the first call is content
 * Errors  none: what is no call is content
 * Source  mistral-common's instruct tokenizers, and the chat templates
 */
import { type AnswerParser, type AnswerPart, findMarker, PartWriter } from './answer-part.js';
import { LIST, TaggedCalls } from './tagged-calls.js';

const OPEN = '[TOOL_CALLS]';
const ARGS = '[ARGS]';
const CALL_ID = '[CALL_ID]';
const NAME = /^[A-Za-z0-9_.-]{1,256}/;

type State = 'content' | 'form' | 'list' | 'name' | 'id' | 'arguments';

export class MistralCalls implements AnswerParser {
  readonly #parts = new PartWriter();
  #list: TaggedCalls | null = null;
  #state: State = 'content';
  #text = '';
  #name = '';
  #depth = 0;
  #inString = false;
  #isEscaped = false;
  #ended = false;

  push(text: string): AnswerPart[] {
    if (this.#list !== null) return this.#list.push(text);
    this.#text += text;
    while (this.#step()) {}
    const parts = this.#parts.take();
    if (this.#list === null) return parts;
    const rest = this.#text;
    this.#text = '';
    return [...parts, ...(this.#list as TaggedCalls).push(rest)];
  }

  flush(): AnswerPart[] {
    if (this.#list !== null) return this.#list.flush();
    this.#ended = true;
    const parts = this.push('');
    if (this.#list !== null) return [...parts, ...(this.#list as TaggedCalls).flush()];
    this.#giveBack();
    this.#parts.end('content');
    return [...parts, ...this.#parts.take()];
  }

  #step(): boolean {
    if (this.#text === '') return false;
    switch (this.#state) {
      case 'content':
        return this.#readContent();
      case 'form': {
        this.#text = this.#text.trimStart();
        if (this.#text === '') return false;
        const isList = this.#text[0] === '[' || this.#text[0] === '{';
        this.#state = isList ? 'list' : 'name';
        if (!isList) return true;
        this.#parts.endSection();
        this.#list = new TaggedCalls(LIST);
        return false;
      }
      case 'name':
        return this.#readName();
      case 'id': {
        const at = this.#text.search(/[[{]/);
        if (at < 0) return false;
        return this.#beginArguments(this.#text.slice(at), this.#text.slice(0, at).trim());
      }
      case 'arguments':
        return this.#readArguments();
      default:
        return false;
    }
  }

  #readContent(): boolean {
    const found = findMarker(this.#text, [OPEN]);
    const isCall = 'marker' in found;
    const free = isCall ? found.at : this.#text.length - (this.#ended ? 0 : found.openUnits);
    this.#parts.text('content', this.#text.slice(0, free));
    this.#text = this.#text.slice(free + (isCall ? OPEN.length : 0));
    if (isCall) this.#state = 'form';
    return isCall;
  }

  #readName(): boolean {
    const name = NAME.exec(this.#text)?.[0];
    if (name === undefined) return this.#noCall();
    const rest = this.#text.slice(name.length).trimStart();
    // The name may go on, or a marker may become whole.
    if (rest === '' || (!this.#ended && (ARGS.startsWith(rest) || CALL_ID.startsWith(rest)))) return false;
    this.#name = name;
    if (rest.startsWith(CALL_ID)) {
      this.#text = rest.slice(CALL_ID.length);
      this.#state = 'id';
      return true;
    }
    if (!rest.startsWith(ARGS) && rest[0] !== '{') return this.#noCall();
    return this.#beginArguments(rest, undefined);
  }

  #beginArguments(text: string, id: string | undefined): boolean {
    if (!this.#ended && text.length < ARGS.length && ARGS.startsWith(text)) return false;
    this.#parts.call(this.#name, id);
    this.#text = text.startsWith(ARGS) ? text.slice(ARGS.length) : text;
    this.#state = 'arguments';
    return true;
  }

  /** One JSON object; then whatever comes. */
  #readArguments(): boolean {
    if (this.#depth === 0) {
      this.#text = this.#text.trimStart();
      if (this.#text === '') return false;
      if (this.#text[0] !== '{') return this.#endCall();
    }
    for (let at = 0; at < this.#text.length; at++) {
      const char = this.#text[at]!;
      if (this.#inString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (char === '\\') this.#isEscaped = true;
        else if (char === '"') this.#inString = false;
      } else if (char === '"') this.#inString = true;
      else if (char === '{' || char === '[') this.#depth++;
      else if (char === '}' || char === ']') this.#depth--;
      if (this.#depth > 0) continue;
      this.#parts.arguments(this.#text.slice(0, at + 1));
      this.#text = this.#text.slice(at + 1);
      return this.#endCall();
    }
    this.#parts.arguments(this.#text);
    this.#text = '';
    return false;
  }

  #endCall(): boolean {
    this.#state = 'content';
    this.#parts.endSection();
    return true;
  }

  #noCall(): boolean {
    this.#parts.text('content', OPEN);
    this.#state = 'content';
    return true;
  }

  /** A call that was cut off before its name was known. */
  #giveBack(): void {
    if (this.#state === 'form' || this.#state === 'name') this.#parts.text('content', OPEN + this.#text);
    else if (this.#state === 'id') this.#parts.text('content', `${OPEN}${this.#name}${CALL_ID}${this.#text}`);
    this.#text = '';
  }
}
