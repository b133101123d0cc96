/** Slots and KV tokens of a group. */
import { describe, expect, it } from 'vitest';
import { kvTokensOf, SlotTable } from '../../../../server/batching/slot-table.js';

describe('a slot table', () => {
  it('gives each slot once, and counts KV tokens', () => {
    const table = new SlotTable(2, 200);
    expect([table.freeSlots, table.freeKvTokens]).toEqual([2, 192]);
    expect([table.take(64), table.take(64)].sort()).toEqual([0, 1]);
    expect([table.freeSlots, table.freeKvTokens]).toEqual([0, 64]);
    expect(() => table.take(64)).toThrow(/no slot/);
  });

  it('refuses KV tokens that are not there', () => {
    const table = new SlotTable(2, 128);
    table.take(64);
    expect(() => table.take(128)).toThrow(/128 KV tokens asked of 64/);
  });

  it('tells each released slot once to the next step, and can give it again in that step', () => {
    const table = new SlotTable(1, 64);
    const slot = table.take(64);
    table.release(slot);
    expect(table.hasClosed).toBe(true);
    expect(table.take(64)).toBe(slot);
    expect(table.takeClosed()).toEqual([slot]);
    expect(table.hasClosed).toBe(false);
    expect(table.takeClosed()).toEqual([]);
  });

  it('refuses to release a slot twice', () => {
    const table = new SlotTable(1, 64);
    table.release(table.take(64));
    expect(() => table.release(0)).toThrow(/not taken/);
  });

  it('keeps a slot warm beside those of sequences, for another sequence or to be dropped', () => {
    const table = new SlotTable(1, 128, 1);
    const slot = table.take(128);
    table.keep(slot);
    expect([table.freeSlots, table.freeNumbers, table.freeKvTokens, table.hasClosed]).toEqual([
      1,
      1,
      128,
      false,
    ]);
    const other = table.take(64);
    expect(other).not.toBe(slot);
    expect(() => table.retake(slot, 64)).toThrow(/no slot is free/);
    table.release(other);
    table.retake(slot, 64);
    expect(() => table.drop(slot)).toThrow(/not warm/);
    table.keep(slot);
    table.drop(slot);
    expect(table.takeClosed()).toEqual([other, slot]);
    expect([table.freeSlots, table.freeNumbers, table.freeKvTokens]).toEqual([1, 2, 128]);
  });

  it('parks slots of preempted sequences in KV memory of their own, as many as it has room for', () => {
    const table = new SlotTable(2, 256, 0, { slots: 1, kvTokens: 128 });
    const [slot, other] = [table.take(128), table.take(128)];
    expect(table.park(slot, 192), 'more tokens than it has').toBe(false);
    expect(table.park(slot, 128)).toBe(true);
    expect(table.park(other, 0), 'a slot more than it has').toBe(false);
    expect([table.freeSlots, table.freeKvTokens, table.parkedKvTokens]).toEqual([1, 128, 128]);
    const third = table.take(64);
    expect([slot, other]).not.toContain(third);
    expect(() => table.unpark(slot, 128)).toThrow(/no slot is free/);
    table.release(third);
    table.unpark(slot, 128);
    expect([table.freeSlots, table.freeKvTokens, table.parkedKvTokens]).toEqual([0, 0, 0]);
    expect(() => table.dropParked(slot)).toThrow(/not parked/);
    table.park(slot, 64);
    table.dropParked(slot);
    expect(table.takeClosed()).toEqual([third, slot]);
    expect([table.freeSlots, table.freeNumbers, table.parkedKvTokens]).toEqual([1, 2, 0]);
  });

  it('reserves prompt and new tokens, rounded up to pages', () => {
    expect(kvTokensOf({ promptIds: [1], maxNewTokens: 63 })).toBe(64);
    expect(kvTokensOf({ promptIds: [1], maxNewTokens: 64 })).toBe(128);
  });
});
