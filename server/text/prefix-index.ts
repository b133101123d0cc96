/**
 * Which strings of a fixed set begin at a place of a text.
 *
 * In      the set; a text and an offset
 * Out     each string of the set that stands there, shortest first
 * Limits  a search ends with the first unit that no string continues with; memory is the sorted list, no trie of objects (a vocabulary
 *         of 256 k tokens would make a million nodes)
 * Errors  none
 * Pure    yes
 */

export class PrefixIndex {
  /** Sorted by UTF-16 units. */
  readonly #strings: readonly string[];
  /** First unit → range of `strings`. */
  readonly #ranges = new Map<number, { low: number; high: number }>();

  constructor(strings: Iterable<string>) {
    this.#strings = [...new Set(strings)].filter((text) => text !== '').sort();
    for (const [index, text] of this.#strings.entries()) {
      const unit = text.charCodeAt(0);
      const range = this.#ranges.get(unit);
      if (range === undefined) this.#ranges.set(unit, { low: index, high: index + 1 });
      else range.high = index + 1;
    }
  }

  /** @param visit called with each string that stands at `start` */
  visitAt(text: string, start: number, visit: (found: string) => void): void {
    const range = this.#ranges.get(text.charCodeAt(start));
    if (range === undefined) return;
    let { low, high } = range;
    for (let units = 1; ; units += 1) {
      const first = this.#strings[low] as string;
      if (first.length === units) visit(first);
      if (start + units >= text.length) return;
      const unit = text.charCodeAt(start + units);
      low = this.#firstAtLeast(units, unit, low, high);
      high = this.#firstAtLeast(units, unit + 1, low, high);
      if (low === high) return;
    }
  }

  /** The longest string that stands at `start`, or null. */
  longestAt(text: string, start: number): string | null {
    let longest: string | null = null;
    this.visitAt(text, start, (found) => {
      longest = found;
    });
    return longest;
  }

  /** First index of [low, high) whose unit at `position` is at least `unit`; a string that ends there comes before all. */
  #firstAtLeast(position: number, unit: number, low: number, high: number): number {
    while (low < high) {
      const middle = (low + high) >>> 1;
      const text = this.#strings[middle] as string;
      if (position < text.length && text.charCodeAt(position) >= unit) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
