/**
 * Numbers between two bounds, as decimal texts.
 *
 * In      bounds, whole or not, or none
 * Out     Expression; NEVER where there is no such number
 * Limits  MAX_DIGITS before the point; behind it two more than the bounds have, MAX_FRACTION at most. No exponents
 * Pure    yes
 */
import { bytes, choice, EMPTY, type Expression, literal, NEVER, repeat, sequence } from './expression.js';
import { DIGIT } from './json-text.js';

const MAX_DIGITS = 19;
const MAX_FRACTION = 9;
const LARGEST = 10n ** BigInt(MAX_DIGITS) - 1n;

export interface Bounds {
  least: number | null;
  most: number | null;
  /** The bound itself is no number of the range. */
  excludesLeast: boolean;
  excludesMost: boolean;
}

export const UNBOUNDED: Bounds = { least: null, most: null, excludesLeast: false, excludesMost: false };

export const isUnbounded = ({ least, most }: Bounds): boolean => least === null && most === null;

export function integersWithin(bounds: Bounds): Expression {
  const [from, to] = scaled(bounds, 0);
  return signed(from, to, 0);
}

export function numbersWithin(bounds: Bounds): Expression {
  const own = Math.max(decimalsOf(bounds.least), decimalsOf(bounds.most));
  const decimals = Math.min(MAX_FRACTION, own + 2);
  const parts = [integersWithin(bounds)];
  for (let count = 1; count <= decimals; count++) {
    const [from, to] = scaled(bounds, count);
    parts.push(signed(from, to, count));
  }
  return choice(...parts);
}

/** The bounds in units of 10^−decimals, both included. */
function scaled({ excludesLeast, excludesMost, least, most }: Bounds, decimals: number): [bigint, bigint] {
  const limit = LARGEST * 10n ** BigInt(decimals) + (10n ** BigInt(decimals) - 1n);
  const up = least === null ? null : toUnits(least, decimals, excludesLeast);
  const down = most === null ? null : toUnits(-most, decimals, excludesMost);
  const from = up === null || up < -limit ? -limit : up;
  const to = down === null || -down > limit ? limit : -down;
  return [from, to];
}

/** The least whole number of units that is not below `value`, or above it. */
function toUnits(value: number, decimals: number, isAbove: boolean): bigint {
  const { digits, point, isNegative } = decimalOf(value);
  // value = ±digits × 10^−point
  const shift = decimals - point;
  const magnitude = BigInt(digits);
  const sign = isNegative ? -1n : 1n;
  if (shift >= 0) return sign * magnitude * 10n ** BigInt(shift) + (isAbove ? 1n : 0n);
  const unit = 10n ** BigInt(-shift);
  const exact = magnitude % unit === 0n;
  const cut = sign * (magnitude / unit);
  if (exact) return cut + (isAbove ? 1n : 0n);
  return isNegative ? cut : cut + 1n;
}

function decimalOf(value: number): { digits: string; point: number; isNegative: boolean } {
  const [mantissa = '0', exponent = '0'] = String(Math.abs(value)).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const point = fraction.length - Number(exponent);
  const digits = whole + fraction + (point < 0 ? '0'.repeat(-point) : '');
  return { digits, point: Math.max(0, point), isNegative: value < 0 };
}

const decimalsOf = (value: number | null): number => (value === null ? 0 : decimalOf(value).point);

function signed(from: bigint, to: bigint, decimals: number): Expression {
  if (from > to) return NEVER;
  const parts: Expression[] = [];
  if (to >= 0n) parts.push(unsigned(from > 0n ? from : 0n, to, decimals));
  if (from < 0n) {
    const below = to < 0n ? -to : 1n;
    if (below <= -from) parts.push(sequence(literal('-'), unsigned(below, -from, decimals)));
  }
  return choice(...parts);
}

/** Digits, with a point before the last `decimals` of them, and no 0 that need not be. */
function unsigned(from: bigint, to: bigint, decimals: number): Expression {
  const shortest = decimals + 1;
  const parts: Expression[] = [];
  const longest = Math.max(shortest, to.toString().length);
  for (let length = shortest; length <= longest; length++) {
    const least = length === shortest ? 0n : 10n ** BigInt(length - 1);
    const most = 10n ** BigInt(length) - 1n;
    const [low, high] = [from > least ? from : least, to < most ? to : most];
    if (low > high) continue;
    parts.push(
      between(low.toString().padStart(length, '0'), high.toString().padStart(length, '0'), decimals),
    );
  }
  return choice(...parts);
}

/** Texts of one length from `low` to `high`. */
function between(low: string, high: string, decimals: number): Expression {
  if (low === '') return EMPTY;
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  const digit = (from: number, to: number, behind: Expression): Expression =>
    from > to
      ? NEVER
      : sequence(
          bytes([0x30 + from, 0x30 + to]),
          rest === decimals && decimals > 0 ? literal('.') : EMPTY,
          behind,
        );
  if (first === last) return digit(first, first, between(low.slice(1), high.slice(1), decimals));
  const isWhole = /^0*$/.test(low.slice(1));
  const isFull = /^9*$/.test(high.slice(1));
  return choice(
    isWhole ? NEVER : digit(first, first, between(low.slice(1), '9'.repeat(rest), decimals)),
    digit(isWhole ? first : first + 1, isFull ? last : last - 1, anyDigits(rest, decimals)),
    isFull ? NEVER : digit(last, last, between('0'.repeat(rest), high.slice(1), decimals)),
  );
}

function anyDigits(count: number, decimals: number): Expression {
  if (count <= decimals || decimals === 0) return repeat(DIGIT, count, count);
  return sequence(
    repeat(DIGIT, count - decimals, count - decimals),
    literal('.'),
    repeat(DIGIT, decimals, decimals),
  );
}
