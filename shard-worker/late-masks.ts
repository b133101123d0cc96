/**
 * Masks of rows that were sent without one (control.proto: Masks): they come while their step runs, or are waited for behind it.
 *
 * In      what came, of each sequence in the order of its rows
 * Out     the mask of a sequence's next such row; null: the row is left out, as are all whose masks had not come when the group was asked
 *         to end, on every rank alike, since all read the same messages
 * Limits  none of its own: one a row that was sent, until the sequence's slot is closed or another's
 * Errors  take: what broke the control channel
 */
import type { LateMask, TokenMask } from '../proto/control.js';

export class LateMasks {
  readonly #come = new Map<number, (TokenMask | null)[]>();
  #changed: (() => void) | null = null;
  #ended = false;
  #broken: { error: unknown } | null = null;

  put(masks: readonly LateMask[]): void {
    for (const { mask, sequence } of masks) {
      const come = this.#come.get(sequence);
      if (come) come.push(mask);
      else this.#come.set(sequence, [mask]);
    }
    this.#changed?.();
  }

  /** One at a time. */
  async take(sequence: number): Promise<TokenMask | null> {
    for (;;) {
      const come = this.#come.get(sequence);
      if (come && come.length > 0) return come.shift()!;
      if (this.#broken) throw this.#broken.error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  /** It has left its slot. */
  forget(sequence: number): void {
    this.#come.delete(sequence);
  }

  /** None will come any more. */
  end(): void {
    this.#ended = true;
    this.#changed?.();
  }

  fail(error: unknown): void {
    this.#broken = { error };
    this.#changed?.();
  }
}
