/**
 * A regular expression as JavaScript writes it (flag u) → Expression.
 *
 * In      its source; how a character is written: as it is, or within a JSON string
 * Out     Expression of the whole text: `whole` as if ^(?:…)$ stood around it, else anything may stand before and behind, as in JSON Schema
 * Limits  MAX_SOURCE characters, groups MAX_DEPTH deep, counts up to MAX_COUNT; no back references, no looking around, no \b, no \p; ^ and $ only at the
 *         ends of the whole and of its alternatives
 * Errors  RegexFault naming the place
 * Source  ECMA-262, Patterns
 */
import {
  type CharRange,
  characters,
  choice,
  EMPTY,
  type Expression,
  invertRanges,
  LAST_CODE_POINT,
  normalRanges,
  repeat,
  sequence,
} from './expression.js';

const MAX_SOURCE = 16_384;
const MAX_DEPTH = 64;
const MAX_COUNT = 100_000;

export class RegexFault extends Error {}

export interface RegexOptions {
  whole: boolean;
  /** Any one of the characters. */
  write?: (ranges: readonly CharRange[]) => Expression;
}

const ANY: readonly CharRange[] = [[0, LAST_CODE_POINT]];
const DIGITS: readonly CharRange[] = [[0x30, 0x39]];
const WORD: readonly CharRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const SPACES: readonly CharRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: readonly CharRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CONTROLS: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, '0': 0 };

/** @throws RegexFault */
export function regexExpression(source: string, options: RegexOptions): Expression {
  if (source.length > MAX_SOURCE) {
    throw new RegexFault(`a pattern of ${source.length} characters, the limit is ${MAX_SOURCE}`);
  }
  return new Parser(source, options).whole();
}

class Parser {
  readonly #chars: readonly string[];
  readonly #whole: boolean;
  readonly #write: (ranges: readonly CharRange[]) => Expression;
  #at = 0;
  #depth = 0;

  constructor(source: string, { whole, write = characters }: RegexOptions) {
    this.#chars = [...source];
    this.#whole = whole;
    this.#write = write;
  }

  whole(): Expression {
    const anything = repeat(this.#write(ANY), 0);
    const alternatives: Expression[] = [];
    do {
      const isStart = this.#skip('^');
      const body = this.#sequence();
      const isEnd = this.#skip('$');
      const before = isStart || this.#whole ? EMPTY : anything;
      const behind = isEnd || this.#whole ? EMPTY : anything;
      alternatives.push(sequence(before, body, behind));
    } while (this.#skip('|'));
    if (this.#at < this.#chars.length) throw this.#fault(`${this.#chars[this.#at]} is not expected`);
    return choice(...alternatives);
  }

  #alternatives(): Expression {
    const alternatives = [this.#sequence()];
    while (this.#skip('|')) alternatives.push(this.#sequence());
    return choice(...alternatives);
  }

  #sequence(): Expression {
    const items: Expression[] = [];
    for (;;) {
      const char = this.#chars[this.#at];
      if (char === undefined || char === '|' || char === ')') break;
      // Only at the end of an alternative of the whole.
      if (char === '$' && this.#depth === 0 && this.#isEnd(this.#at + 1)) break;
      items.push(this.#counted(this.#atom()));
    }
    return sequence(...items);
  }

  #isEnd(at: number): boolean {
    return at === this.#chars.length || this.#chars[at] === '|';
  }

  #counted(item: Expression): Expression {
    const counts = this.#counts();
    if (counts === null) return item;
    // Lazy or not: the same texts.
    this.#skip('?');
    if (this.#counts() !== null) throw this.#fault('there is nothing to repeat');
    const [least, most] = counts;
    if (least > most) throw this.#fault(`{${least},${most}} is out of order`);
    return repeat(item, least, most);
  }

  #counts(): [number, number] | null {
    if (this.#skip('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#skip('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#skip('?')) return [0, 1];
    if (this.#chars[this.#at] !== '{') return null;
    const match = /^\{(\d+)(,?)(\d*)\}/.exec(this.#chars.slice(this.#at, this.#at + 24).join(''));
    if (match === null) throw this.#fault('{ needs a count');
    this.#at += match[0].length;
    const least = Number(match[1]);
    const most = match[2] === '' ? least : match[3] === '' ? Number.POSITIVE_INFINITY : Number(match[3]);
    const largest = Number.isFinite(most) ? most : least;
    if (largest > MAX_COUNT) throw this.#fault(`a count of ${largest}, the limit is ${MAX_COUNT}`);
    return [least, most];
  }

  #atom(): Expression {
    const char = this.#chars[this.#at++]!;
    switch (char) {
      case '.':
        return this.#write(invertRanges(LINE_ENDS));
      case '(':
        return this.#group();
      case '[':
        return this.#write(this.#classRanges());
      case '\\':
        return this.#write(this.#escape(false));
      case '^':
      case '$':
        throw this.#fault(`${char} is served at the ends of the pattern and of its alternatives only`, 1);
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        throw this.#fault(`${char} is not expected`, 1);
      default:
        return this.#write([pointRange(char.codePointAt(0)!)]);
    }
  }

  #group(): Expression {
    if (++this.#depth > MAX_DEPTH) throw this.#fault(`groups more than ${MAX_DEPTH} deep`);
    if (this.#skip('?')) {
      const rest = this.#chars.slice(this.#at, this.#at + 128).join('');
      const opening = /^(?::|<[A-Za-z_$][\w$]*>)/.exec(rest)?.[0];
      if (opening === undefined) throw this.#fault('looking ahead or behind, and flags, are not supported');
      this.#at += opening.length;
    }
    const body = this.#alternatives();
    if (!this.#skip(')')) throw this.#fault(') is missing');
    this.#depth--;
    return body;
  }

  #classRanges(): CharRange[] {
    const inverted = this.#skip('^');
    const ranges: CharRange[] = [];
    for (;;) {
      const char = this.#chars[this.#at++];
      if (char === undefined) throw this.#fault('] is missing');
      if (char === ']') break;
      const from = char === '\\' ? this.#escape(true) : [pointRange(char.codePointAt(0)!)];
      const isRange = this.#chars[this.#at] === '-' && this.#chars[this.#at + 1] !== ']';
      if (!isRange) {
        ranges.push(...from);
        continue;
      }
      this.#at++;
      const end = this.#chars[this.#at++];
      if (end === undefined) throw this.#fault('] is missing');
      const to = end === '\\' ? this.#escape(true) : [pointRange(end.codePointAt(0)!)];
      const [low, high] = [onePoint(from), onePoint(to)];
      if (low === null || high === null || low > high)
        throw this.#fault('a range of characters is out of order');
      ranges.push([low, high]);
    }
    return inverted ? invertRanges(ranges) : normalRanges(ranges);
  }

  #escape(inClass: boolean): readonly CharRange[] {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw this.#fault('\\ at the end');
    switch (char) {
      case 'd':
        return DIGITS;
      case 'D':
        return invertRanges(DIGITS);
      case 'w':
        return WORD;
      case 'W':
        return invertRanges(WORD);
      case 's':
        return SPACES;
      case 'S':
        return invertRanges(SPACES);
      case 'x':
        return [pointRange(this.#hex(2))];
      case 'u':
        return [pointRange(this.#unicode())];
      case 'c': {
        const letter = this.#chars[this.#at++] ?? '';
        if (!/^[A-Za-z]$/.test(letter)) throw this.#fault('\\c needs a letter');
        return [pointRange(letter.charCodeAt(0) % 32)];
      }
      case 'b':
        if (inClass) return [[8, 8]];
        throw this.#fault('\\b is not supported', 1);
    }
    if (Object.hasOwn(CONTROLS, char)) return [pointRange(CONTROLS[char]!)];
    if (/[A-Za-z0-9]/.test(char)) throw this.#fault(`\\${char} is not supported`, 1);
    return [pointRange(char.codePointAt(0)!)];
  }

  #unicode(): number {
    if (!this.#skip('{')) {
      const first = this.#hex(4);
      const isPair =
        first >= 0xd800 &&
        first < 0xdc00 &&
        this.#chars[this.#at] === '\\' &&
        this.#chars[this.#at + 1] === 'u';
      if (!isPair) return first;
      this.#at += 2;
      return 0x10000 + ((first - 0xd800) << 10) + (this.#hex(4) - 0xdc00);
    }
    const end = this.#chars.indexOf('}', this.#at);
    const digits = this.#chars.slice(this.#at, end < 0 ? this.#at : end).join('');
    const code = /^[\da-fA-F]{1,6}$/.test(digits) ? Number.parseInt(digits, 16) : Number.NaN;
    if (!(code <= LAST_CODE_POINT)) throw this.#fault('\\u{…} needs a code point');
    this.#at = end + 1;
    return code;
  }

  #hex(count: number): number {
    const digits = this.#chars.slice(this.#at, this.#at + count).join('');
    if (!new RegExp(`^[\\da-fA-F]{${count}}$`).test(digits))
      throw this.#fault(`${count} hexadecimal digits are missing`);
    this.#at += count;
    return Number.parseInt(digits, 16);
  }

  #skip(char: string): boolean {
    if (this.#chars[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #fault(what: string, back = 0): RegexFault {
    return new RegexFault(`${what} (at character ${this.#at - back})`);
  }
}

const pointRange = (code: number): CharRange => [code, code];

function onePoint(ranges: readonly CharRange[]): number | null {
  const [only] = ranges;
  return ranges.length === 1 && only![0] === only![1] ? only![0] : null;
}
