/**
 * Reads a language byte by byte: a pushdown automaton that is made deterministic as it is used.
 *
 * In      an Expression
 * Out     states; a byte leads from one to the next, or nowhere. Every state is on the way to a text of the language
 * Limits  MAX_POSITIONS in a state, MAX_EXPANSIONS a byte; what is remembered is forgotten past MAX_REMEMBERED (it is made again)
 * Errors  ConstraintLimit
 *
 * A position is what is still to come, as a list (item, then the rest), and there is one object for each list: so two places in a text from
 * which the same can follow are one state, whose ways on and whose mask of tokens are known already. A state is the set of positions
 * where the text so far may be. Counts of a repetition are part of its item, so that {0,10000} is no larger than {0,1}.
 */
import { type Automaton, type Expression, hasByte } from './expression.js';

const MAX_POSITIONS = 2000;
const MAX_EXPANSIONS = 50_000;
const MAX_REMEMBERED = 50_000;

/** So many tokens lead on from a place (Machine.far) as from the state itself. */
export const FAR_TOKENS = 8;

/** The grammar asks for more than is served. */
export class ConstraintLimit extends Error {}

/** An expression, or a place within one, from which text follows. */
type Item =
  | { id: number; kind: 'bytes'; set: Uint32Array }
  | { id: number; kind: 'automaton'; automaton: Automaton; state: number }
  | { id: number; kind: 'inner'; expression: Expression; at: number }
  | { id: number; kind: 'repeat'; item: Expression; least: number; most: number };

/** `item`, and then `rest`; null: the end. */
export interface Position {
  id: number;
  item: Item;
  rest: Position | null;
  /** By how far is looked ahead: the same with counts no larger than can be reached. */
  clamped: Clamped<Position>;
}

export interface State {
  id: number;
  /** Items of bytes and of automata alone. */
  positions: readonly Position[];
  /** The text may end here. */
  accepts: boolean;
  /** By the class of the byte; absent: not known yet. */
  next: (State | null | undefined)[];
  clamped: Clamped<State>;
}

/** For a token, and for FAR_TOKENS of them and the mask behind. */
const Ahead = { TOKEN: 0, FAR: 1 } as const;
type Ahead = (typeof Ahead)[keyof typeof Ahead];
type Clamped<T> = [T | null, T | null];

export class Machine {
  /** Bytes of a class lead to the same, everywhere. */
  readonly classOf: Uint8Array;
  readonly start: State;
  readonly #representatives: number[] = [];
  #ids = 0;
  readonly #itemsOf = new Map<Expression, Map<string, Item>>();
  readonly #automata = new Map<Automaton, Map<number, Item>>();
  #positions = new Map<string, Position>();
  #states = new Map<string, State>();
  /** Above them counts are alike, by how far is looked ahead. */
  readonly #limits: readonly [number, number];

  /** @param longest bytes of the longest token */
  constructor(root: Expression, longest = 0) {
    this.#limits = [longest + 1, longest * (FAR_TOKENS + 1) + 1];
    this.classOf = this.#classes(root);
    const found = new Found();
    this.#enter(root, null, found);
    this.start = this.#state(found);
  }

  get classes(): number {
    return this.#representatives.length;
  }

  /** null: no text of the language goes on so. */
  step(state: State, byte: number): State | null {
    return this.stepClass(state, this.classOf[byte]!);
  }

  stepClass(state: State, byteClass: number): State | null {
    const known = state.next[byteClass];
    if (known !== undefined) return known;
    const byte = this.#representatives[byteClass]!;
    const found = new Found();
    for (const { item, rest } of state.positions) {
      if (item.kind === 'bytes') {
        if (hasByte(item.set, byte)) this.#goOn(rest, found);
      } else if (item.kind === 'automaton') {
        const next = item.automaton.next[item.state * 256 + byte]!;
        if (next >= 0) this.#enterAutomaton(item.automaton, next, rest, found);
      }
    }
    const next = found.isEmpty ? null : this.#state(found);
    state.next[byteClass] = next;
    return next;
  }

  /** A state that goes on alike for as many bytes as the longest token has: there are few of them. */
  clamp(state: State): State {
    return this.#clamp(state, Ahead.TOKEN);
  }

  /** A state that goes on alike for FAR_TOKENS tokens, and has the same mask behind them; the state itself where its counts are small. */
  far(state: State): State {
    return this.#clamp(state, Ahead.FAR);
  }

  #clamp(state: State, ahead: Ahead): State {
    const known = state.clamped[ahead];
    if (known !== null) return known;
    const found = new Found();
    found.accepts = state.accepts;
    for (const position of state.positions) found.positions.add(this.#clampPosition(position, ahead));
    const clamped = this.#state(found);
    clamped.clamped[ahead] = clamped;
    state.clamped[ahead] = clamped;
    return clamped;
  }

  #clampPosition(position: Position, ahead: Ahead): Position {
    const known = position.clamped[ahead];
    if (known !== null) return known;
    // From the end of the list on: lists are deep where a text is.
    const open: Position[] = [];
    let at: Position | null = position;
    while (at !== null && at.clamped[ahead] === null) {
      open.push(at);
      at = at.rest;
    }
    let rest = at === null ? null : at.clamped[ahead];
    for (const one of open.reverse()) {
      const clamped = this.#position(this.#clampItem(one.item, this.#limits[ahead]), rest);
      clamped.clamped[ahead] = clamped;
      one.clamped[ahead] = clamped;
      rest = clamped;
    }
    return position.clamped[ahead]!;
  }

  #clampItem(item: Item, limit: number): Item {
    if (item.kind !== 'repeat') return item;
    const least = Math.min(item.least, limit);
    const most = item.most === Number.POSITIVE_INFINITY ? item.most : Math.min(item.most, limit);
    return least === item.least && most === item.most ? item : this.#repeat(item.item, least, most);
  }

  #goOn(rest: Position | null, found: Found): void {
    if (rest === null) {
      found.accepts = true;
      return;
    }
    if (found.seen.has(rest)) return;
    found.seen.add(rest);
    const { item } = rest;
    switch (item.kind) {
      case 'inner': {
        const { expression } = item;
        if (expression.kind !== 'sequence') {
          this.#enter(expression, rest.rest, found);
          return;
        }
        this.#enterSequence(expression, item.at, rest.rest, found);
        return;
      }
      case 'repeat':
        this.#enterRepeat(item.item, item.least, item.most, rest.rest, found);
        return;
      case 'automaton':
        this.#enterAutomaton(item.automaton, item.state, rest.rest, found);
        return;
      default:
        found.add(rest);
    }
  }

  #enter(expression: Expression, rest: Position | null, found: Found): void {
    if (++found.expansions > MAX_EXPANSIONS) {
      throw new ConstraintLimit(`one character can be read in more than ${MAX_EXPANSIONS} ways`);
    }
    switch (expression.kind) {
      case 'bytes':
        found.add(this.#position(this.#bytes(expression), rest));
        return;
      case 'sequence':
        this.#enterSequence(expression, 0, rest, found);
        return;
      case 'choice': {
        // Once for each rest: nested choices share their parts.
        const position = this.#position(this.#inner(expression, 0), rest);
        if (found.seen.has(position)) return;
        found.seen.add(position);
        for (const item of expression.items) this.#enter(item, rest, found);
        return;
      }
      case 'repeat':
        this.#enterRepeat(expression.item, expression.least, expression.most, rest, found);
        return;
      case 'automaton':
        this.#enterAutomaton(expression.automaton, 0, rest, found);
        return;
      case 'rule': {
        const position = this.#position(this.#inner(expression, 0), rest);
        if (found.seen.has(position)) return;
        found.seen.add(position);
        this.#enter(expression.body!, rest, found);
      }
    }
  }

  #enterSequence(
    expression: Extract<Expression, { kind: 'sequence' }>,
    at: number,
    rest: Position | null,
    found: Found,
  ): void {
    const { items } = expression;
    if (at === items.length) this.#goOn(rest, found);
    else if (at === items.length - 1) this.#enter(items[at]!, rest, found);
    else this.#enter(items[at]!, this.#position(this.#inner(expression, at + 1), rest), found);
  }

  #enterRepeat(item: Expression, least: number, most: number, rest: Position | null, found: Found): void {
    if (least === 0) this.#goOn(rest, found);
    if (most === 0) return;
    const left =
      most === 1 ? rest : this.#position(this.#repeat(item, Math.max(0, least - 1), most - 1), rest);
    if (left !== null && left !== rest) {
      // An item that may be empty leads back here.
      if (found.entered.has(left)) return;
      found.entered.add(left);
    }
    this.#enter(item, left, found);
  }

  #enterAutomaton(automaton: Automaton, state: number, rest: Position | null, found: Found): void {
    if (automaton.accepts[state] === 1) this.#goOn(rest, found);
    found.add(this.#position(this.#automatonItem(automaton, state), rest));
  }

  #bytes(expression: Extract<Expression, { kind: 'bytes' }>): Item {
    return this.#itemOf(expression, '', (id) => ({ id, kind: 'bytes', set: expression.set }));
  }

  #inner(expression: Expression, at: number): Item {
    return this.#itemOf(expression, `${at}`, (id) => ({ id, kind: 'inner', expression, at }));
  }

  #repeat(item: Expression, least: number, most: number): Item {
    return this.#itemOf(item, `${least},${most}`, (id) => ({ id, kind: 'repeat', item, least, most }));
  }

  #itemOf(expression: Expression, key: string, make: (id: number) => Item): Item {
    let items = this.#itemsOf.get(expression);
    if (items === undefined) {
      items = new Map();
      this.#itemsOf.set(expression, items);
    }
    let item = items.get(key);
    if (item === undefined) {
      item = make(this.#ids++);
      items.set(key, item);
    }
    return item;
  }

  #automatonItem(automaton: Automaton, state: number): Item {
    let items = this.#automata.get(automaton);
    if (items === undefined) {
      items = new Map();
      this.#automata.set(automaton, items);
    }
    let item = items.get(state);
    if (item === undefined) {
      item = { id: this.#ids++, kind: 'automaton', automaton, state };
      items.set(state, item);
    }
    return item;
  }

  #position(item: Item, rest: Position | null): Position {
    const key = `${item.id},${rest === null ? '' : rest.id}`;
    let position = this.#positions.get(key);
    if (position === undefined) {
      if (this.#positions.size >= MAX_REMEMBERED) this.#positions = new Map();
      position = { id: this.#ids++, item, rest, clamped: [null, null] };
      this.#positions.set(key, position);
    }
    return position;
  }

  #state({ accepts, positions }: Found): State {
    if (positions.size > MAX_POSITIONS) {
      throw new ConstraintLimit(
        `a text can be read in ${positions.size} ways at one place, the limit is ${MAX_POSITIONS}`,
      );
    }
    const sorted = [...positions].sort((a, b) => a.id - b.id);
    const key = `${accepts ? '!' : ''}${sorted.map(({ id }) => id).join(',')}`;
    let state = this.#states.get(key);
    if (state === undefined) {
      if (this.#states.size >= MAX_REMEMBERED) this.#states = new Map();
      state = { id: this.#ids++, positions: sorted, accepts, next: [], clamped: [null, null] };
      this.#states.set(key, state);
    }
    return state;
  }

  /** Bytes that no part of the grammar tells apart are one class. */
  #classes(root: Expression): Uint8Array {
    const classOf = new Uint8Array(256);
    let count = 1;
    const split = (sign: (byte: number) => number): void => {
      const numbers = new Map<string, number>();
      const refined = new Uint8Array(256);
      for (let byte = 0; byte < 256; byte++) {
        const key = `${classOf[byte]!},${sign(byte)}`;
        let number = numbers.get(key);
        if (number === undefined) {
          number = numbers.size;
          numbers.set(key, number);
        }
        refined[byte] = number;
      }
      count = numbers.size;
      classOf.set(refined);
    };
    const sets = new Set<string>();
    for (const part of partsOf(root)) {
      if (count === 256) break;
      if (part.kind === 'bytes') {
        const key = part.set.join();
        if (!sets.has(key)) split((byte) => (hasByte(part.set, byte) ? 1 : 0));
        sets.add(key);
      } else if (part.kind === 'automaton') {
        const { accepts, next } = part.automaton;
        for (let state = 0; state < accepts.length && count < 256; state++) {
          const row = next.subarray(state * 256, state * 256 + 256);
          const key = row.join();
          if (!sets.has(key)) split((byte) => row[byte]!);
          sets.add(key);
        }
      }
    }
    for (let byte = 255; byte >= 0; byte--) this.#representatives[classOf[byte]!] = byte;
    return classOf;
  }
}

/** What is found on the way from one byte to the next. */
class Found {
  readonly positions = new Set<Position>();
  readonly seen = new Set<Position>();
  readonly entered = new Set<Position>();
  accepts = false;
  expansions = 0;

  get isEmpty(): boolean {
    return this.positions.size === 0 && !this.accepts;
  }

  add(position: Position): void {
    this.positions.add(position);
  }
}

/** Every part of an expression, once. */
export function partsOf(root: Expression): Set<Expression> {
  const parts = new Set<Expression>([root]);
  for (const part of parts) {
    if (part.kind === 'sequence' || part.kind === 'choice') for (const item of part.items) parts.add(item);
    else if (part.kind === 'repeat') parts.add(part.item);
    else if (part.kind === 'rule' && part.body !== null) parts.add(part.body);
  }
  return parts;
}
