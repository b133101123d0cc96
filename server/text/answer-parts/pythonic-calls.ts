/**
 * Calls as a Python list, the whole answer: [get_weather(city="Paris", days=3), now()] (Llama 3.2 and 4, ToolACE).
 *
 * In      pieces of text; <|python_start|> and <|python_end|> around it are dropped
 * Out     AnswerParts; each argument is told when it is whole, as JSON
 * Limits  literals only: strings, numbers, True, False, None, lists, tuples, dictionaries, nested MAX_DEPTH deep
 * Errors  none: what is no such list is content
 * Source  Llama 3.2's prompt format; name as in vLLM's --tool-call-parser
 */
import { type AnswerParser, type AnswerPart, PartWriter } from './answer-part.js';

const MAX_DEPTH = 64;
const MARKERS = ['<|python_start|>', '<|python_end|>'];
const NAME = /^[A-Za-z_][\w.]*/;
const CALL_START = /^\[\s*[A-Za-z_][\w.]*\s*\(/;
/** How a list may go on that is not whole yet. */
const OPEN_START = /^\[\s*(?:[A-Za-z_][\w.]*\s*)?$/;

type State = 'open' | 'call' | 'argument' | 'after-argument' | 'after-call' | 'content';

export class PythonicCalls implements AnswerParser {
  readonly #parts = new PartWriter();
  #text = '';
  #state: State = 'open';
  #isFirst = true;
  #ended = false;

  push(text: string): AnswerPart[] {
    this.#text += text;
    while (this.#step()) {}
    return this.#parts.take();
  }

  flush(): AnswerPart[] {
    this.#ended = true;
    while (this.#step()) {}
    if (this.#state === 'open' || this.#state === 'content') this.#parts.text('content', this.#text);
    this.#text = '';
    this.#parts.end('content');
    return this.#parts.take();
  }

  #step(): boolean {
    if (this.#state === 'content') {
      this.#parts.text('content', this.#text);
      this.#text = '';
      return false;
    }
    if (this.#state === 'open') return this.#readStart();
    this.#text = this.#text.trimStart();
    if (this.#text === '') return false;
    switch (this.#state) {
      case 'call':
        return this.#readName();
      case 'argument':
        return this.#readArgument();
      case 'after-argument':
        return this.#readAfterArgument();
      default:
        return this.#readAfterCall();
    }
  }

  #readStart(): boolean {
    let rest = this.#text.trimStart();
    for (const marker of MARKERS) {
      if (rest.startsWith(marker)) rest = rest.slice(marker.length).trimStart();
      else if (rest !== '' && marker.startsWith(rest) && !this.#ended) return false;
    }
    if (rest === '' && !this.#ended) return false;
    if (CALL_START.test(rest)) {
      this.#text = rest.slice(1);
      this.#state = 'call';
      return true;
    }
    if (OPEN_START.test(rest) && !this.#ended) return false;
    this.#state = 'content';
    return true;
  }

  #readName(): boolean {
    const open = this.#text.indexOf('(');
    if (open < 0) return false;
    const name = NAME.exec(this.#text)?.[0];
    if (name === undefined || this.#text.slice(name.length, open).trim() !== '') return this.#giveUp();
    this.#parts.call(name);
    this.#text = this.#text.slice(open + 1);
    this.#isFirst = true;
    this.#state = 'argument';
    return true;
  }

  #readArgument(): boolean {
    if (this.#text[0] === ')') return this.#endCall();
    const equals = this.#text.indexOf('=');
    if (equals < 0) return false;
    const name = this.#text.slice(0, equals).trim();
    if (!/^[A-Za-z_]\w*$/.test(name)) return this.#giveUp();
    const value = readLiteral(this.#text, equals + 1, 0);
    if (value === null) return this.#giveUp();
    // What ends a number or a word is not there yet.
    if (value === 'open' || value.end >= this.#text.length) return false;
    this.#parts.arguments(`${this.#isFirst ? '{' : ', '}${JSON.stringify(name)}: ${value.json}`);
    this.#isFirst = false;
    this.#text = this.#text.slice(value.end);
    this.#state = 'after-argument';
    return true;
  }

  #readAfterArgument(): boolean {
    if (this.#text[0] === ')') return this.#endCall();
    if (this.#text[0] !== ',') return this.#giveUp();
    this.#text = this.#text.slice(1);
    this.#state = 'argument';
    return true;
  }

  #endCall(): boolean {
    this.#parts.arguments(this.#isFirst ? '{}' : '}');
    this.#text = this.#text.slice(1);
    this.#state = 'after-call';
    return true;
  }

  #readAfterCall(): boolean {
    const char = this.#text[0]!;
    if (char === ',') this.#state = 'call';
    else if (char !== ']') return this.#giveUp();
    this.#text = this.#text.slice(1);
    // What a model says behind its calls is nobody's.
    if (char === ']') return this.#giveUp();
    return true;
  }

  /** What was told cannot be taken back; the rest is dropped. */
  #giveUp(): boolean {
    this.#text = '';
    this.#state = 'call';
    return false;
  }
}

type Literal = { json: string; end: number } | 'open' | null;

/** A Python literal at `from` as JSON; 'open': it is not whole; null: it is none. */
function readLiteral(text: string, from: number, depth: number): Literal {
  if (depth > MAX_DEPTH) return null;
  const at = skipSpace(text, from);
  const char = text[at];
  if (char === undefined) return 'open';
  if (char === '"' || char === "'") return readString(text, at);
  if (char === '[' || char === '(') return readItems(text, at, char === '[' ? ']' : ')', depth);
  if (char === '{') return readDictionary(text, at, depth);
  const word = /^[-+\w.]+/.exec(text.slice(at))?.[0];
  if (word === undefined) return null;
  const end = at + word.length;
  if (end === text.length) return 'open';
  const constants: Record<string, string> = {
    True: 'true',
    False: 'false',
    None: 'null',
    true: 'true',
    false: 'false',
    null: 'null',
  };
  const constant = Object.hasOwn(constants, word) ? constants[word]! : null;
  if (constant !== null) return { json: constant, end };
  const number = Number(word.replaceAll('_', ''));
  return Number.isFinite(number) && /^[-+]?[\d.]/.test(word) ? { json: JSON.stringify(number), end } : null;
}

const skipSpace = (text: string, from: number): number => {
  let at = from;
  while (at < text.length && text[at]!.trim() === '') at++;
  return at;
};

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\x07',
  '0': '\0',
  '\n': '',
};

function readString(text: string, from: number): Literal {
  const quote = text[from]!;
  let value = '';
  for (let at = from + 1; at < text.length; at++) {
    const char = text[at]!;
    if (char === quote) return { json: JSON.stringify(value), end: at + 1 };
    if (char !== '\\') {
      value += char;
      continue;
    }
    const next = text[++at];
    if (next === undefined) return 'open';
    const digits = next === 'x' ? 2 : next === 'u' ? 4 : next === 'U' ? 8 : 0;
    if (digits === 0) {
      value += ESCAPES[next] ?? (next === '\\' || next === '"' || next === "'" ? next : `\\${next}`);
      continue;
    }
    const hex = text.slice(at + 1, at + 1 + digits);
    if (hex.length < digits) return 'open';
    const code = /^[\da-fA-F]+$/.test(hex) ? Number.parseInt(hex, 16) : Number.NaN;
    if (!(code <= 0x10ffff)) return null;
    value += String.fromCodePoint(code);
    at += digits;
  }
  return 'open';
}

function readItems(text: string, from: number, close: string, depth: number): Literal {
  const items: string[] = [];
  for (let at = skipSpace(text, from + 1); ; ) {
    if (text[at] === undefined) return 'open';
    if (text[at] === close) return { json: `[${items.join(', ')}]`, end: at + 1 };
    const item = readLiteral(text, at, depth + 1);
    if (item === null || item === 'open') return item;
    items.push(item.json);
    at = skipSpace(text, item.end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
    else if (text[at] !== undefined && text[at] !== close) return null;
  }
}

function readDictionary(text: string, from: number, depth: number): Literal {
  const entries: string[] = [];
  for (let at = skipSpace(text, from + 1); ; ) {
    if (text[at] === undefined) return 'open';
    if (text[at] === '}') return { json: `{${entries.join(', ')}}`, end: at + 1 };
    const key = readLiteral(text, at, depth + 1);
    if (key === null || key === 'open') return key;
    at = skipSpace(text, key.end);
    if (text[at] === undefined) return 'open';
    if (text[at] !== ':') return null;
    const value = readLiteral(text, at + 1, depth + 1);
    if (value === null || value === 'open') return value;
    entries.push(`${key.json[0] === '"' ? key.json : JSON.stringify(key.json)}: ${value.json}`);
    at = skipSpace(text, value.end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
    else if (text[at] !== undefined && text[at] !== '}') return null;
  }
}
