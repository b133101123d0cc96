/**
 * The texts of JSON: strings, numbers and white space, as a constrained answer may write them.
 *
 * Out     Expressions
 * Limits  MAX_DIGITS of a number's whole and of its fraction, exponents of two digits: what is no number elsewhere is never written.
 *         White space is what people write: a space behind a comma or colon, or a new line and its indentation of up to MAX_INDENT
 * Source  RFC 8259
 */
import {
  bytes,
  type CharRange,
  characters,
  choice,
  EMPTY,
  type Expression,
  literal,
  normalRanges,
  optional,
  repeat,
  rule,
  sequence,
} from './expression.js';

const MAX_DIGITS = 20;
const MAX_INDENT = 32;

const spaces = bytes([0x20, 0x20], [0x09, 0x09]);

/** Between an opening bracket and what follows it, before a comma or a closing one. */
export const SPACE: Expression = choice(
  EMPTY,
  literal(' '),
  sequence(optional(literal('\r')), literal('\n'), repeat(spaces, 0, MAX_INDENT)),
);
export const COMMA: Expression = sequence(literal(','), SPACE);
export const COLON: Expression = sequence(literal(':'), optional(literal(' ')));

const hex = bytes([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
/** No half of a pair. */
const fourDigits = choice(
  sequence(bytes([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]), hex, hex, hex),
  sequence(bytes([0x44, 0x44], [0x64, 0x64]), bytes([0x30, 0x37]), hex, hex),
);

const PLAIN: readonly CharRange[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x10ffff],
];

const SHORT_ESCAPES: Readonly<Record<number, string>> = {
  8: 'b',
  9: 't',
  10: 'n',
  12: 'f',
  13: 'r',
  34: '"',
  92: '\\',
};

/** Any character of a string, however it is written. */
export const ANY_CHARACTER: Expression = choice(
  characters(PLAIN),
  sequence(
    literal('\\'),
    choice(
      bytes(...[...'"\\/bfnrt'].map((char): [number, number] => [char.charCodeAt(0), char.charCodeAt(0)])),
    ),
  ),
  sequence(literal('\\u'), fourDigits),
);

/** One of the characters, each in one way. */
export function writtenCharacters(ranges: readonly CharRange[]): Expression {
  const plain: CharRange[] = [];
  const escaped: Expression[] = [];
  for (const [from, to] of normalRanges(ranges)) {
    for (let code = from; code <= Math.min(to, 0x1f); code++) escaped.push(literal(escapeOf(code)));
    for (const code of [0x22, 0x5c]) if (from <= code && code <= to) escaped.push(literal(escapeOf(code)));
    for (const [low, high] of PLAIN) {
      if (Math.max(from, low) <= Math.min(to, high)) plain.push([Math.max(from, low), Math.min(to, high)]);
    }
  }
  return choice(characters(plain), ...escaped);
}

function escapeOf(code: number): string {
  const short = SHORT_ESCAPES[code];
  return short === undefined ? `\\u${code.toString(16).padStart(4, '0')}` : `\\${short}`;
}

export const quoted = (inner: Expression): Expression => sequence(literal('"'), inner, literal('"'));

export const anyString = (least = 0, most = Number.POSITIVE_INFINITY): Expression =>
  quoted(repeat(ANY_CHARACTER, least, most));

export const DIGIT: Expression = bytes([0x30, 0x39]);
export const NOT_ZERO: Expression = bytes([0x31, 0x39]);

const whole = sequence(
  optional(literal('-')),
  choice(literal('0'), sequence(NOT_ZERO, repeat(DIGIT, 0, MAX_DIGITS - 1))),
);

export const ANY_INTEGER: Expression = whole;
export const ANY_NUMBER: Expression = sequence(
  whole,
  optional(sequence(literal('.'), repeat(DIGIT, 1, MAX_DIGITS))),
  optional(
    sequence(
      bytes([0x45, 0x45], [0x65, 0x65]),
      optional(bytes([0x2b, 0x2b], [0x2d, 0x2d])),
      repeat(DIGIT, 1, 2),
    ),
  ),
);

export const BOOLEAN: Expression = choice(literal('true'), literal('false'));
export const NULL: Expression = literal('null');

/** `{`, members, `}`; or the same of a list. */
export const bracketed = (open: string, inner: Expression, close: string): Expression =>
  sequence(literal(open), SPACE, inner, SPACE, literal(close));

/** Any JSON value; its objects and lists nest as they like. */
export function anyValue(): { value: Expression; object: Expression; list: Expression } {
  const value = rule('a JSON value');
  const member = sequence(anyString(), COLON, value);
  const several = (item: Expression): Expression =>
    optional(sequence(item, repeat(sequence(COMMA, item), 0)));
  const object = bracketed('{', several(member), '}');
  const list = bracketed('[', several(value), ']');
  value.body = choice(object, list, anyString(), ANY_NUMBER, BOOLEAN, NULL);
  return { value, object, list };
}
