/**
 * What is known of a grammar without its process (constraint-program.ts): states that texts have come to or near to, where bytes lead
 * from them, and their masks. A text that goes where texts have been needs nobody's help.
 *
 * In      GrammarNews, as the process tells them; bytes of a token
 * Out     the state behind them, and its mask; null: not known, the process is asked
 * Limits  what the process tells (MAX_TOLD_BYTES): nothing is made here, so that a hostile grammar has nothing to run
 */
import type { TokenMask } from '../../../proto/control.js';
import { type GrammarNews, type ToldMask, UNKNOWN } from './constraint-messages.js';

const NO_BITS = new Uint8Array();

export class KnownGrammar {
  #classOf: Uint8Array = new Uint8Array(256);
  /** By state: its mask, then the states that each class of bytes leads to. */
  readonly #states = new Map<number, Int32Array>();
  readonly #masks = new Map<number, TokenMask>();

  learn({ classOf, masks, states }: GrammarNews): void {
    if (classOf) this.#classOf = Uint8Array.from(classOf);
    for (const mask of masks) this.#masks.set(mask.number, maskOf(mask));
    for (const [state, ...row] of states) this.#states.set(state!, Int32Array.from(row));
  }

  /** null: not known, or none. */
  after(state: number, bytes: Uint8Array): number | null {
    let at = state;
    for (const byte of bytes) {
      const to = this.#states.get(at)?.[1 + this.#classOf[byte]!] ?? UNKNOWN;
      if (to < 0) return null;
      at = to;
    }
    return at;
  }

  /** null: not known. */
  maskAt(state: number): TokenMask | null {
    return this.mask(this.#states.get(state)?.[0] ?? UNKNOWN);
  }

  /** The mask of this number; null: not known. */
  mask(number: number): TokenMask | null {
    return this.#masks.get(number) ?? null;
  }
}

function maskOf(told: ToldMask): TokenMask {
  return 'ids' in told
    ? { ids: told.ids, bits: NO_BITS }
    : { ids: [], bits: Buffer.from(told.bits, 'base64') };
}
