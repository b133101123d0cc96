/**
 * The tokens of a vocabulary by their bytes, as a tree that is walked once a mask.
 *
 * In      bytes of each id; null: not text (special tokens, gaps)
 * Out     the tree's nodes in the order of a walk, as arrays
 * Pure    yes
 */
export class TokenTrie {
  /** Bytes of the longest token. */
  readonly longest: number;
  /** For each node: its byte, how deep it lies (1: first byte), the node behind its subtree, the first id that ends here (−1: none). */
  readonly byte: Uint8Array;
  readonly depth: Uint16Array;
  readonly behind: Int32Array;
  readonly id: Int32Array;
  /** Another id of the same bytes; −1: none. */
  readonly twin: Int32Array;
  readonly #bytes: readonly (Uint8Array | null)[];

  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.#bytes = tokens;
    const ids = tokens.flatMap((bytes, id) => (bytes !== null && bytes.length > 0 ? [id] : []));
    ids.sort((a, b) => Buffer.compare(tokens[a]!, tokens[b]!));
    const nodes = countNodes(tokens, ids);
    this.longest = ids.reduce((most, id) => Math.max(most, tokens[id]!.length), 0);
    this.byte = new Uint8Array(nodes);
    this.depth = new Uint16Array(nodes);
    this.behind = new Int32Array(nodes);
    this.id = new Int32Array(nodes).fill(-1);
    this.twin = new Int32Array(tokens.length).fill(-1);
    this.#fill(ids);
  }

  get nodes(): number {
    return this.byte.length;
  }

  bytesOf(id: number): Uint8Array | null {
    return this.#bytes[id] ?? null;
  }

  #fill(ids: readonly number[]): void {
    const path: number[] = [];
    let node = 0;
    let before: Uint8Array = new Uint8Array();
    let last = -1;
    for (const id of ids) {
      const bytes = this.#bytes[id]!;
      const shared = sharedLength(before, bytes);
      if (shared === bytes.length && shared === before.length) {
        this.twin[id] = this.twin[last]!;
        this.twin[last] = id;
        continue;
      }
      while (path.length > shared) this.behind[path.pop()!] = node;
      for (let at = shared; at < bytes.length; at++) {
        this.byte[node] = bytes[at]!;
        this.depth[node] = at + 1;
        path.push(node++);
      }
      this.id[path.at(-1)!] = id;
      before = bytes;
      last = id;
    }
    while (path.length > 0) this.behind[path.pop()!] = node;
  }
}

function countNodes(tokens: readonly (Uint8Array | null)[], ids: readonly number[]): number {
  let nodes = 0;
  let before: Uint8Array = new Uint8Array();
  for (const id of ids) {
    const bytes = tokens[id]!;
    nodes += bytes.length - sharedLength(before, bytes);
    before = bytes;
  }
  return nodes;
}

function sharedLength(a: Uint8Array, b: Uint8Array): number {
  const most = Math.min(a.length, b.length);
  let at = 0;
  while (at < most && a[at] === b[at]) at++;
  return at;
}
