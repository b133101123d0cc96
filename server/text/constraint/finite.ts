/**
 * Finite automata of expressions without recursion: both of two languages, one without the other.
 *
 * In      expressions
 * Out     an expression of one Automaton, without states that lead nowhere; NEVER where no text is left
 * Limits  MAX_STATES
 * Errors  ConstraintLimit
 */
import { type Automaton, bytes, type Expression, NEVER, repeat } from './expression.js';
import { ConstraintLimit, Machine, type State } from './machine.js';

const MAX_STATES = 20_000;

/** Texts that are in both. */
export const intersection = (a: Expression, b: Expression): Expression =>
  product(a, b, (inA, inB) => inA && inB);

/** Texts of `a` that are not in `b`. */
export const difference = (a: Expression, b: Expression): Expression =>
  product(a, b, (inA, inB) => inA && !inB);

/**
 * Counting so far takes a state for each, where texts may be of any length: told before they are made.
 *
 * @throws ConstraintLimit
 */
export function checkCounted(texts: Expression, count: number): void {
  if (count > MAX_STATES && isEndless(texts)) throw tooManyStates();
}

/** There is no longest text: a state of its automaton comes again. */
function isEndless(texts: Expression): boolean {
  const all = intersection(texts, repeat(bytes([0, 0xff]), 0));
  if (all.kind !== 'automaton') return false;
  const { accepts, next } = all.automaton;
  const follow = Array.from(accepts, (_, state) => {
    const row = next.subarray(state * 256, state * 256 + 256);
    return [...new Set(row)].filter((to) => to >= 0);
  });
  const before = new Int32Array(accepts.length);
  for (const to of follow.flat()) before[to]! += 1;
  const open = follow.flatMap((_, state) => (before[state] === 0 ? [state] : []));
  let seen = 0;
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    seen++;
    for (const to of follow[state]!) {
      before[to]! -= 1;
      if (before[to] === 0) open.push(to);
    }
  }
  return seen < accepts.length;
}

const tooManyStates = (): ConstraintLimit =>
  new ConstraintLimit(`its texts need an automaton of more than ${MAX_STATES} states`);

interface Pair {
  a: State;
  /** null: no text of b goes on so. */
  b: State | null;
}

function product(a: Expression, b: Expression, accepts: (inA: boolean, inB: boolean) => boolean): Expression {
  const [first, second] = [new Machine(a), new Machine(b)];
  const needsB = !accepts(true, false);
  const numbers = new Map<string, number>();
  const pairs: Pair[] = [];
  const numberOf = (pair: Pair): number => {
    const key = `${pair.a.id},${pair.b === null ? '' : pair.b.id}`;
    let number = numbers.get(key);
    if (number === undefined) {
      number = pairs.length;
      if (number >= MAX_STATES) throw tooManyStates();
      numbers.set(key, number);
      pairs.push(pair);
    }
    return number;
  };
  numberOf({ a: first.start, b: second.start });
  const rows: Int32Array[] = [];
  for (let at = 0; at < pairs.length; at++) {
    const { a: fromA, b: fromB } = pairs[at]!;
    const row = new Int32Array(256).fill(-1);
    for (let byte = 0; byte < 256; byte++) {
      const toA = first.step(fromA, byte);
      const toB = fromB === null ? null : second.step(fromB, byte);
      if (toA !== null && !(needsB && toB === null)) row[byte] = numberOf({ a: toA, b: toB });
    }
    rows.push(row);
  }
  const isEnd = pairs.map(({ a: inA, b: inB }) => accepts(inA.accepts, inB?.accepts ?? false));
  return trimmed(rows, isEnd);
}

/** Only states from which an end is reached. */
function trimmed(rows: readonly Int32Array[], isEnd: readonly boolean[]): Expression {
  const comesFrom = rows.map((): number[] => []);
  rows.forEach((row, from) => {
    for (const to of new Set(row)) if (to >= 0) comesFrom[to]!.push(from);
  });
  const lives = new Set<number>();
  const open = isEnd.flatMap((ends, state) => (ends ? [state] : []));
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    if (lives.has(state)) continue;
    lives.add(state);
    open.push(...comesFrom[state]!);
  }
  if (!lives.has(0)) return NEVER;
  const numbers = new Map([...lives].sort((a, b) => a - b).map((state, number) => [state, number]));
  const automaton: Automaton = {
    next: new Int32Array(numbers.size * 256).fill(-1),
    accepts: new Uint8Array(numbers.size),
  };
  for (const [state, number] of numbers) {
    automaton.accepts[number] = isEnd[state] ? 1 : 0;
    rows[state]!.forEach((to, byte) => {
      automaton.next[number * 256 + byte] = to < 0 ? -1 : (numbers.get(to) ?? -1);
    });
  }
  return { kind: 'automaton', automaton };
}

/** Whole numbers in decimal, 0 or no leading 0, that `divisor` divides. */
export function multiplesOf(divisor: number): Expression {
  // 0: nothing read; 1 + r: digits with the remainder r; divisor + 1: "0", after which no digit comes.
  const zero = divisor + 1;
  const rows = Array.from({ length: divisor + 2 }, () => new Int32Array(256).fill(-1));
  for (let digit = 0; digit <= 9; digit++) {
    rows[0]![0x30 + digit] = digit === 0 ? zero : 1 + (digit % divisor);
    for (let rest = 0; rest < divisor; rest++) {
      rows[1 + rest]![0x30 + digit] = 1 + ((rest * 10 + digit) % divisor);
    }
  }
  return trimmed(
    rows,
    rows.map((_, state) => state === 1 || state === zero),
  );
}
