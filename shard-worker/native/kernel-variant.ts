/**
 * Which set of instructions our own kernels run by (SsVariantState in shard-worker/kernels/kernels.h).
 *
 * In      the library's functions; SHARDSERVE_KERNELS: the name of a set, and no better one is used
 * Out     what is worth a line of the log: a set that the processor has and that is not used, and why
 */
import type { LibraryHandle } from 'koffi';

export interface VariantCalls {
  /** Worst first; null behind the last. */
  name(index: number): string | null;
  state(index: number): number;
  use(index: number): number;
}

const USABLE = 1;

/** By SsVariantState; the others need no line. */
const REASONS: Readonly<Record<number, string>> = {
  2: 'the system does not give its registers',
  3: 'small products had other bits here than those of a known set',
  4: 'a small product ended in a signal here',
  5: 'there was no memory to prove it here',
};

export function variantCalls(library: LibraryHandle): VariantCalls {
  return {
    name: library.func('const char *ss_variant_name(int32_t)') as VariantCalls['name'],
    state: library.func('int32_t ss_variant_state(int32_t)') as VariantCalls['state'],
    use: library.func('int32_t ss_use_variant(int32_t)') as VariantCalls['use'],
  };
}

/** Chooses the best usable set, none better than `wanted`, which may be undefined. @returns lines for the log */
export function chooseVariant(calls: VariantCalls, wanted: string | undefined): string[] {
  const names: string[] = [];
  for (let name = calls.name(0); name !== null; name = calls.name(names.length)) names.push(name);
  const notes: string[] = [];
  const best = wanted === undefined ? -1 : names.indexOf(wanted);
  if (wanted !== undefined && best < 0) {
    notes.push(`SHARDSERVE_KERNELS=${wanted} names no set of instructions; there are ${names.join(', ')}`);
  }
  for (let index = best < 0 ? names.length - 1 : best; index >= 0; index--) {
    const state = calls.state(index);
    if (state === USABLE) {
      calls.use(index);
      break;
    }
    const reason = REASONS[state];
    if (reason !== undefined) notes.push(`our own kernels do without ${names[index]}: ${reason}`);
  }
  return notes;
}
