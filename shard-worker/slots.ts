/**
 * The slots of a cache of keys and values: which are open, and how many rows each has. Where the rows lie is the cache's own
 * (kv-cache.ts, remote-kv-cache.ts).
 *
 * Limits  maxSlots slots; slotTokens rows each
 * Errors  assertions: the coordinator never names a slot that is not free or a row past the end
 */
import assert from 'node:assert/strict';

export interface SlotState {
  /** Written since it was opened. */
  rows: number;
  open: boolean;
}

export abstract class Slots<S extends SlotState> {
  readonly slotTokens: number;
  readonly maxSlots: number;
  readonly #slots: (S | null)[];

  constructor(maxSlots: number, slotTokens: number) {
    this.maxSlots = maxSlots;
    this.slotTokens = slotTokens;
    this.#slots = new Array<S | null>(maxSlots).fill(null);
  }

  /** Makes a slot's memory: when it is first opened. */
  protected abstract reserve(): S;
  protected abstract readonly bytesOfSlot: number;
  /** Keys and values of a token, all layers. */
  protected abstract readonly bytesOfRow: number;

  /** Bytes that the slots opened so far have or reserve. */
  get reservedBytes(): number {
    return this.#slots.filter((slot) => slot !== null).length * this.bytesOfSlot;
  }

  /** Bytes of rows that open slots hold. */
  get touchedBytes(): number {
    return this.#slots.reduce((sum, slot) => sum + (slot?.open ? slot.rows : 0), 0) * this.bytesOfRow;
  }

  openSlots(): number[] {
    return this.#slots.flatMap((slot, index) => (slot?.open ? [index] : []));
  }

  open(index: number): void {
    assert(index >= 0 && index < this.#slots.length, `slot ${index} of ${this.#slots.length}`);
    const slot = this.#slots[index] ?? this.reserve();
    assert(!slot.open, `slot ${index} is open already`);
    slot.open = true;
    slot.rows = 0;
    this.#slots[index] = slot;
  }

  close(index: number): void {
    this.opened(index).open = false;
  }

  protected opened(index: number): S {
    const slot = this.#slots[index];
    assert(slot?.open, `slot ${index} is not open`);
    return slot;
  }

  /** Whoever asks writes `count` rows from `row` on, behind or over those that there are. */
  protected toWrite(index: number, row: number, count: number): S {
    const slot = this.opened(index);
    assert(row <= slot.rows && row + count <= this.slotTokens, `row ${row + count} of ${this.slotTokens}`);
    slot.rows = Math.max(slot.rows, row + count);
    return slot;
  }

  /** Only the first `count` rows stay. @returns the slot, which still says how many there were */
  protected toTruncate(index: number, count: number): S {
    const slot = this.opened(index);
    assert(count <= slot.rows, `${count} rows kept of ${slot.rows} in slot ${index}`);
    return slot;
  }

  /** Whoever asks copies the rows `row` … `end` − 1 to a slot that has those before. */
  protected toCopy(from: number, to: number, row: number, end: number): { source: S; target: S } {
    const source = this.opened(from);
    const target = this.opened(to);
    assert(
      from !== to && row <= target.rows && end <= source.rows,
      `rows ${row} … ${end} of slot ${from} to ${to}`,
    );
    target.rows = Math.max(target.rows, end);
    return { source, target };
  }
}
