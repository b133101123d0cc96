/**
 * A language over bytes as an expression: what every kind of constraint becomes.
 *
 * In      characters, texts, other expressions
 * Out     Expression: a graph, since rules may name themselves; parts may be shared
 * Limits  none of its own: grammar.ts checks the whole
 * Pure    yes
 */
import assert from 'node:assert/strict';

/** Which of the 256 bytes: bit b of word b >> 5. */
export type ByteSet = Uint32Array;

/** A finite automaton over bytes; every state leads to an accepting one. */
export interface Automaton {
  /** State × 256 → state, −1: none. It starts in 0. */
  next: Int32Array;
  accepts: Uint8Array;
}

export type Expression =
  | { kind: 'bytes'; set: ByteSet }
  | { kind: 'sequence'; items: readonly Expression[] }
  | { kind: 'choice'; items: readonly Expression[] }
  | { kind: 'repeat'; item: Expression; least: number; most: number }
  | { kind: 'automaton'; automaton: Automaton }
  /** The body is set once it is known: it may name the rule. */
  | { kind: 'rule'; name: string; body: Expression | null };

export type Rule = Extract<Expression, { kind: 'rule' }>;

export const EMPTY: Expression = { kind: 'sequence', items: [] };
/** No text at all. */
export const NEVER: Expression = { kind: 'choice', items: [] };

export const isNever = (one: Expression): boolean => one.kind === 'choice' && one.items.length === 0;

export function byteSet(...ranges: readonly (readonly [number, number])[]): ByteSet {
  const set = new Uint32Array(8);
  for (const [from, to] of ranges)
    for (let byte = from; byte <= to; byte++) set[byte >> 5]! |= 1 << (byte & 31);
  return set;
}

export const hasByte = (set: ByteSet, byte: number): boolean => ((set[byte >> 5]! >>> (byte & 31)) & 1) === 1;

export const bytes = (...ranges: readonly (readonly [number, number])[]): Expression => ({
  kind: 'bytes',
  set: byteSet(...ranges),
});

export function sequence(...items: readonly Expression[]): Expression {
  if (items.some(isNever)) return NEVER;
  const flat = items.flatMap((item) => (item.kind === 'sequence' ? item.items : [item]));
  return flat.length === 1 ? flat[0]! : { kind: 'sequence', items: flat };
}

export function choice(...items: readonly Expression[]): Expression {
  const flat = [...new Set(items.flatMap((item) => (item.kind === 'choice' ? item.items : [item])))];
  return flat.length === 1 ? flat[0]! : { kind: 'choice', items: flat };
}

export function repeat(item: Expression, least: number, most = Number.POSITIVE_INFINITY): Expression {
  if (least > most) return NEVER;
  if (isNever(item)) return least === 0 ? EMPTY : NEVER;
  if (most === 0) return EMPTY;
  return least === 1 && most === 1 ? item : { kind: 'repeat', item, least, most };
}

export const optional = (item: Expression): Expression => repeat(item, 0, 1);

export function literal(text: string | Uint8Array): Expression {
  const all = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
  return sequence(...Array.from(all, (byte) => bytes([byte, byte])));
}

export function rule(name: string): Rule {
  return { kind: 'rule', name, body: null };
}

/** Code points from … to, both included. */
export type CharRange = readonly [number, number];

export const LAST_CODE_POINT = 0x10ffff;
const SURROGATES: CharRange = [0xd800, 0xdfff];

/** Sorted, joined, without surrogates, which no UTF-8 has. */
export function normalRanges(ranges: readonly CharRange[]): CharRange[] {
  const whole = ranges
    .flatMap(([from, to]): CharRange[] =>
      from <= SURROGATES[1] && to >= SURROGATES[0]
        ? [
            [from, SURROGATES[0] - 1],
            [SURROGATES[1] + 1, to],
          ]
        : [[from, to]],
    )
    .filter(([from, to]) => from <= to)
    .sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [from, to] of whole) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

export function invertRanges(ranges: readonly CharRange[]): CharRange[] {
  const inverted: CharRange[] = [];
  let from = 0;
  for (const [start, end] of normalRanges(ranges)) {
    if (start > from) inverted.push([from, start - 1]);
    from = end + 1;
  }
  if (from <= LAST_CODE_POINT) inverted.push([from, LAST_CODE_POINT]);
  return normalRanges(inverted);
}

/** Any one of the characters, in UTF-8. */
export function characters(ranges: readonly CharRange[]): Expression {
  return choice(...normalRanges(ranges).flatMap(([from, to]) => utf8Ranges(from, to)));
}

const LENGTH_ENDS = [0x7f, 0x7ff, 0xffff, LAST_CODE_POINT];

/** Characters of one range as sequences of byte ranges. */
function utf8Ranges(from: number, to: number): Expression[] {
  const parts: Expression[] = [];
  let start = from;
  for (const end of LENGTH_ENDS) {
    if (start > end || start > to) continue;
    parts.push(...sameLength(encoded(start), encoded(Math.min(end, to))));
    start = end + 1;
  }
  return parts;
}

const encoded = (code: number): number[] => [...Buffer.from(String.fromCodePoint(code), 'utf8')];

function sameLength(from: readonly number[], to: readonly number[]): Expression[] {
  assert.equal(from.length, to.length);
  const [first, ...restFrom] = from as [number, ...number[]];
  const [last, ...restTo] = to as [number, ...number[]];
  if (restFrom.length === 0) return [bytes([first, last])];
  if (first === last)
    return sameLength(restFrom, restTo).map((rest) => sequence(bytes([first, first]), rest));
  const lowest = restFrom.map(() => 0x80);
  const highest = restFrom.map(() => 0xbf);
  const parts: Expression[] = [];
  let start = first;
  let end = last;
  if (restFrom.some((byte) => byte !== 0x80)) {
    parts.push(...sameLength(restFrom, highest).map((rest) => sequence(bytes([first, first]), rest)));
    start++;
  }
  if (restTo.some((byte) => byte !== 0xbf)) {
    parts.push(...sameLength(lowest, restTo).map((rest) => sequence(bytes([last, last]), rest)));
    end--;
  }
  if (start <= end) parts.push(sequence(bytes([start, end]), ...lowest.map(() => bytes([0x80, 0xbf]))));
  return parts;
}
