/** Which set of instructions our own kernels run by, and what the log says about those they do without. */
import { describe, expect, it } from 'vitest';
import { chooseVariant } from '../../../shard-worker/native/kernel-variant.js';

const NAMES = ['portable', 'avx2', 'avx512-vnni', 'amx-int8'];

/** @param states SsVariantState by name; what is not named is usable */
function choose(wanted: string | undefined, states: Record<string, number> = {}) {
  const asked: string[] = [];
  let used: string | null = null;
  const notes = chooseVariant(
    {
      name: (index) => NAMES[index] ?? null,
      state: (index) => {
        asked.push(NAMES[index]!);
        return states[NAMES[index]!] ?? 1;
      },
      use: (index) => {
        used = NAMES[index]!;
        return 0;
      },
    },
    wanted,
  );
  return { asked, used, notes };
}

describe('the set of instructions', () => {
  it('is the best, without a word, also where the processor lacks a better one', () => {
    expect(choose(undefined)).toEqual({ asked: ['amx-int8'], used: 'amx-int8', notes: [] });
    expect(choose(undefined, { 'amx-int8': 0 })).toMatchObject({ used: 'avx512-vnni', notes: [] });
  });

  it.each([
    [2, /does not give its registers/],
    [3, /other bits/],
    [4, /signal/],
    [5, /no memory/],
  ])('is the next where the best is no good here (%i), and the log says why', (state, reason) => {
    const { used, notes } = choose(undefined, { 'amx-int8': state });
    expect(used).toBe('avx512-vnni');
    expect(notes).toEqual([expect.stringMatching(reason)]);
    expect(notes[0]).toContain('amx-int8');
  });

  it('is none better than SHARDSERVE_KERNELS says, and a better one is not even tried', () => {
    expect(choose('avx512-vnni')).toEqual({ asked: ['avx512-vnni'], used: 'avx512-vnni', notes: [] });
    expect(choose('avx512-vnni', { 'avx512-vnni': 0 })).toMatchObject({ used: 'avx2', notes: [] });
  });

  it('is the best where SHARDSERVE_KERNELS names none, and the log names those that there are', () => {
    const { used, notes } = choose('amx');
    expect(used).toBe('amx-int8');
    expect(notes).toEqual([
      'SHARDSERVE_KERNELS=amx names no set of instructions; there are portable, avx2, avx512-vnni, amx-int8',
    ]);
  });
});
