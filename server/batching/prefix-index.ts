/**
 * Which slots hold keys and values of the first tokens of a prompt: a radix tree over token ids.
 *
 * In      (slot, ids) added and removed; a prompt
 * Out     how many first tokens each slot shares with the prompt, exactly
 * Limits  an entry a slot; at most two nodes an entry, and the ids of the entries: both are bounded by the slots
 * Errors  assertions
 * Pure    no clock, no order: who is to be preferred is decided elsewhere
 *
 * Ids are compared, not hashes of blocks: the answer is exact to the token, and nobody can make two prompts collide.
 */
import assert from 'node:assert/strict';

interface Node {
  /** Ids between the parent and here; empty at the root only. */
  ids: readonly number[];
  /** By their first id. */
  readonly children: Map<number, Node>;
  /** Entries that go through the end of `ids`. */
  readonly slots: Set<number>;
}

const newNode = (ids: readonly number[], slots: Iterable<number>): Node => ({
  ids,
  children: new Map(),
  slots: new Set(slots),
});

export class PrefixIndex {
  readonly #root = newNode([], []);
  readonly #entries = new Map<number, readonly number[]>();

  get size(): number {
    return this.#entries.size;
  }

  /** Nodes below the root. */
  get nodeCount(): number {
    let count = -1;
    const left = [this.#root];
    for (let node = left.pop(); node; node = left.pop()) {
      count++;
      left.push(...node.children.values());
    }
    return count;
  }

  add(slot: number, ids: readonly number[]): void {
    assert(!this.#entries.has(slot) && ids.length > 0, `slot ${slot} has one entry, of at least one id`);
    this.#entries.set(slot, ids);
    let node = this.#root;
    for (let depth = 0; depth < ids.length; ) {
      const first = ids[depth] as number;
      const child = node.children.get(first);
      if (!child) {
        node.children.set(first, newNode(ids.slice(depth), [slot]));
        return;
      }
      const shared = sharedLength(child.ids, ids, depth);
      const next = shared < child.ids.length ? split(node, child, shared) : child;
      next.slots.add(slot);
      depth += shared;
      node = next;
    }
  }

  remove(slot: number): void {
    const ids = this.#entries.get(slot);
    assert(ids, `slot ${slot} has an entry`);
    this.#entries.delete(slot);
    let node = this.#root;
    for (let depth = 0; depth < ids.length; ) {
      const first = ids[depth] as number;
      const child = node.children.get(first);
      assert(child, 'an entry is in every node of its path');
      child.slots.delete(slot);
      if (child.slots.size === 0) {
        // Nobody else went this way, so nothing is below.
        node.children.delete(first);
        break;
      }
      depth += child.ids.length;
      node = child;
    }
    if (node !== this.#root) mergeOnlyChild(node);
  }

  /** Slot → first tokens that it shares with `ids`; slots that share none are left out. */
  shared(ids: readonly number[]): Map<number, number> {
    const path: { node: Node; depth: number }[] = [];
    let node: Node | undefined = this.#root;
    for (let depth = 0; depth < ids.length; ) {
      node = node.children.get(ids[depth] as number);
      if (!node) break;
      const shared = sharedLength(node.ids, ids, depth);
      depth += shared;
      path.push({ node, depth });
      if (shared < node.ids.length) break;
    }
    const found = new Map<number, number>();
    for (const { node: passed, depth } of path.reverse()) {
      for (const slot of passed.slots) if (!found.has(slot)) found.set(slot, depth);
    }
    return found;
  }
}

/** Ids of `edge` that stand in `ids` from `start` on. */
function sharedLength(edge: readonly number[], ids: readonly number[], start: number): number {
  const most = Math.min(edge.length, ids.length - start);
  let count = 0;
  while (count < most && edge[count] === ids[start + count]) count++;
  return count;
}

/** Puts a node between `parent` and `child`, `length` ids deep in the child's. */
function split(parent: Node, child: Node, length: number): Node {
  const middle = newNode(child.ids.slice(0, length), child.slots);
  child.ids = child.ids.slice(length);
  middle.children.set(child.ids[0] as number, child);
  parent.children.set(middle.ids[0] as number, middle);
  return middle;
}

/** A node that neither ends an entry nor parts two is not needed. */
function mergeOnlyChild(node: Node): void {
  const [child, other] = node.children.values();
  if (!child || other || child.slots.size < node.slots.size) return;
  node.ids = [...node.ids, ...child.ids];
  node.children.clear();
  for (const [first, grandchild] of child.children) node.children.set(first, grandchild);
}
