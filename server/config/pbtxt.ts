/**
 * Reads protobuf's text format without a schema: enough for Triton's config.pbtxt.
 *
 * In      text
 * Out     fields by name, each a list of what was given for it: a text, a number, a truth value, a word, or fields again
 * Limits  MAX_DEPTH messages inside each other; MAX_VALUES
 * Errors  PbtxtError with the line
 * Source  protobuf's text format specification; the parts without a schema: no extensions, no Any
 */

const MAX_DEPTH = 32;
const MAX_VALUES = 100_000;

export type PbtxtValue = string | number | boolean | { word: string } | PbtxtFields;
export type PbtxtFields = Map<string, PbtxtValue[]>;

export class PbtxtError extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

interface Token {
  text: string;
  kind: 'word' | 'number' | 'text' | 'mark' | 'end';
  line: number;
}

const TOKEN =
  /(?<space>[\s]+|#[^\n]*)|(?<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<number>[-+]?(?:0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?f?)\b\.?)|(?<word>-?[a-z_][\w.]*)|(?<mark>[{}[\]<>:,;])/iy;

/** @throws PbtxtError */
export function parsePbtxt(text: string): PbtxtFields {
  return new Parser(tokensOf(text)).fields(null, 0);
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null)
      throw new PbtxtError(line, `${JSON.stringify(text.slice(at, at + 10))} is not understood`);
    const [whole] = match;
    const [kind] = Object.entries(match.groups ?? {}).find(([, group]) => group !== undefined)!;
    if (kind !== 'space') tokens.push({ text: whole, kind: kind as Token['kind'], line });
    line += whole.split('\n').length - 1;
    if (tokens.length > MAX_VALUES * 4)
      throw new PbtxtError(line, `there are more than ${MAX_VALUES} values`);
  }
  tokens.push({ text: 'the end', kind: 'end', line });
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  /** @param end null: that of the text */
  fields(end: '}' | '>' | null, depth: number): PbtxtFields {
    if (depth > MAX_DEPTH) throw this.#wrong(`lies deeper than ${MAX_DEPTH} messages`);
    const fields: PbtxtFields = new Map();
    for (;;) {
      const token = this.#next();
      if (end === null ? token.kind === 'end' : token.text === end) return fields;
      if (token.kind === 'mark' && (token.text === ',' || token.text === ';')) continue;
      if (token.kind !== 'word') {
        this.#at -= 1;
        throw this.#wrong(`is not the name of a field${end === null ? '' : ` or ${end}`}`);
      }
      const list = fields.get(token.text) ?? [];
      list.push(...this.#values(depth));
      fields.set(token.text, list);
    }
  }

  #values(depth: number): PbtxtValue[] {
    const hasColon = this.#skip(':');
    if (!this.#skip('[')) return [this.#value(hasColon, depth)];
    const list: PbtxtValue[] = [];
    while (!this.#skip(']')) {
      list.push(this.#value(hasColon, depth));
      this.#skip(',');
    }
    return list;
  }

  #value(hasColon: boolean, depth: number): PbtxtValue {
    const token = this.#next();
    if (token.text === '{' || token.text === '<')
      return this.fields(token.text === '{' ? '}' : '>', depth + 1);
    if (!hasColon) {
      this.#at -= 1;
      throw this.#wrong('stands where : or { is wanted');
    }
    switch (token.kind) {
      case 'text': {
        let text = unquoted(token.text);
        // Texts beside each other are one.
        for (; this.#peek().kind === 'text'; ) text += unquoted(this.#next().text);
        return text;
      }
      case 'number':
        return Number(token.text.replace(/f$/i, (letter) => (/^[-+]?0x/i.test(token.text) ? letter : '')));
      case 'word':
        if (/^(?:true|t)$/i.test(token.text)) return true;
        if (/^(?:false|f)$/i.test(token.text)) return false;
        return { word: token.text };
      default:
        this.#at -= 1;
        throw this.#wrong('is no value');
    }
  }

  #peek(): Token {
    return this.#tokens[Math.min(this.#at, this.#tokens.length - 1)]!;
  }

  #next(): Token {
    const token = this.#peek();
    this.#at += 1;
    return token;
  }

  #skip(mark: string): boolean {
    const token = this.#peek();
    if (token.kind !== 'mark' || token.text !== mark) return false;
    this.#at += 1;
    return true;
  }

  #wrong(what: string): PbtxtError {
    const { line, text } = this.#peek();
    return new PbtxtError(line, `${text.slice(0, 40)} ${what}`);
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '"': '"',
  "'": "'",
  '\\': '\\',
};

const unquoted = (text: string): string =>
  text.slice(1, -1).replace(/\\(.)/g, (whole, letter: string) => ESCAPES[letter] ?? whole);
