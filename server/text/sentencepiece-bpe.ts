/**
 * SentencePiece's BPE: joins the neighbours whose joined text is the piece of the highest score, until no two are one.
 *
 * In      pieces with their scores; symbols that are never joined (user-defined ones)
 * Out     ids of a normalized text
 * Limits  n·log n for n characters
 * Errors  none: what no piece covers is the unknown piece, or its bytes
 * Pure    yes
 * Source  SentencePiece's bpe_model.cc: of equal scores the leftmost first; a piece that is unused is taken apart again
 */
import type { PrefixIndex } from './prefix-index.js';

export interface BpePieces {
  /** Ids of the pieces that may come out of joining. */
  ids: ReadonlyMap<string, number>;
  scores: readonly number[];
  unused: ReadonlySet<number>;
  /** User-defined symbols: found first, never joined. */
  frozen: PrefixIndex;
}

interface Join {
  score: number;
  left: number;
  /** Where the joined text ends: a join whose halves have changed since is not made. */
  right: number;
  end: number;
}

/** @param visit called with each symbol of the result; undefined: no piece */
export function joinSymbols(
  text: string,
  pieces: BpePieces,
  visit: (symbol: string, id: number | undefined) => void,
): void {
  // A symbol is known by where it starts: its end, 0 when it was joined to the one before, and its neighbours.
  const ends = new Int32Array(text.length + 1);
  const previous = new Int32Array(text.length + 1).fill(-1);
  const isFrozen = new Uint8Array(text.length + 1);
  for (let start = 0, last = -1; start < text.length; ) {
    const frozen = pieces.frozen.longestAt(text, start);
    const end = start + (frozen?.length ?? ((text.codePointAt(start) as number) > 0xffff ? 2 : 1));
    ends[start] = end;
    previous[start] = last;
    isFrozen[start] = frozen === null ? 0 : 1;
    last = start;
    start = end;
  }
  const heap: Join[] = [];
  const halves = new Map<string, number>();
  const offer = (left: number, right: number): void => {
    if (left < 0 || right >= text.length || isFrozen[left] === 1 || isFrozen[right] === 1) return;
    const end = ends[right] as number;
    const id = pieces.ids.get(text.slice(left, end));
    if (id === undefined) return;
    push(heap, { score: pieces.scores[id] as number, left, right, end });
    if (pieces.unused.has(id)) halves.set(text.slice(left, end), right - left);
  };
  for (let start = ends[0] as number; start < text.length; start = ends[start] as number)
    offer(previous[start] as number, start);
  for (let join = pop(heap); join !== undefined; join = pop(heap)) {
    const { left, right, end } = join;
    if (ends[left] !== right || ends[right] !== end) continue;
    ends[left] = end;
    ends[right] = 0;
    if (end < text.length) previous[end] = left;
    offer(previous[left] as number, left);
    offer(left, end);
  }
  const visitWhole = (symbol: string): void => {
    const id = pieces.ids.get(symbol);
    const half = id !== undefined && pieces.unused.has(id) ? halves.get(symbol) : undefined;
    if (half === undefined) visit(symbol, id);
    else {
      visitWhole(symbol.slice(0, half));
      visitWhole(symbol.slice(half));
    }
  };
  for (let start = 0; start < text.length; start = ends[start] as number)
    visitWhole(text.slice(start, ends[start]));
}

function isBefore(one: Join, other: Join): boolean {
  return one.score > other.score || (one.score === other.score && one.left < other.left);
}

function push(heap: Join[], join: Join): void {
  let at = heap.push(join) - 1;
  while (at > 0) {
    const parent = (at - 1) >>> 1;
    if (!isBefore(join, heap[parent] as Join)) break;
    heap[at] = heap[parent] as Join;
    at = parent;
  }
  heap[at] = join;
}

function pop(heap: Join[]): Join | undefined {
  const top = heap[0];
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return top;
  let at = 0;
  for (let child = 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && isBefore(heap[child + 1] as Join, heap[child] as Join)) child += 1;
    if (!isBefore(heap[child] as Join, last)) break;
    heap[at] = heap[child] as Join;
    at = child;
  }
  heap[at] = last;
  return top;
}
