/**
 * SentencePiece's compiled normalisation table: byte sequences and what they become.
 *
 * In      the bytes of `precompiled_charsmap`: length of a trie, a double-array trie of 32-bit units, texts ended by a zero byte
 * Out     the replacement of a prefix
 * Limits  every index is checked against the arrays; a search is as long as its key at most
 * Errors  CHECKPOINT_INVALID when the lengths do not fit each other
 * Source  the layout of darts-clone's units, as SentencePiece's normalizer.cc reads them
 */
import { ServingError } from '../../proto/errors.js';

const NOT_A_STRING = 'The precompiled_charsmap of the tokenizer ';

export class PrecompiledCharsmap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;
  readonly #replacements = new Map<number, string>();

  /** @throws ServingError CHECKPOINT_INVALID */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trieBytes = bytes.byteLength < 4 ? -1 : view.getUint32(0, true);
    if (trieBytes <= 0 || trieBytes % 4 !== 0 || trieBytes + 4 > bytes.byteLength) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `${NOT_A_STRING}says that its trie has ${trieBytes} bytes, but has ${bytes.byteLength} in all`,
      );
    }
    this.#units = Uint32Array.from({ length: trieBytes / 4 }, (_, index) =>
      view.getUint32(4 + 4 * index, true),
    );
    this.#texts = bytes.subarray(4 + trieBytes);
  }

  /** What the shortest known prefix of the key becomes; null: none is known. */
  shortest(key: Uint8Array): string | null {
    const found = this.#search(key, 0, true);
    return found === null ? null : found.replacement;
  }

  /** The longest known prefix at `start`, or null. */
  longest(key: Uint8Array, start: number): { bytes: number; replacement: string } | null {
    return this.#search(key, start, false);
  }

  #search(key: Uint8Array, start: number, first: boolean): { bytes: number; replacement: string } | null {
    let found: { bytes: number; value: number } | null = null;
    let node = offsetOf(this.#units[0] ?? 0);
    for (let at = start; at < key.length; at += 1) {
      const byte = key[at] as number;
      if (byte === 0) break;
      node ^= byte;
      const unit = this.#units[node];
      if (unit === undefined || (unit & 0x800000ff) !== byte) break;
      node ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 1) {
        found = { bytes: at + 1 - start, value: (this.#units[node] ?? 0) & 0x7fffffff };
        if (first) break;
      }
    }
    return found === null ? null : { bytes: found.bytes, replacement: this.#textAt(found.value) };
  }

  #textAt(offset: number): string {
    let text = this.#replacements.get(offset);
    if (text === undefined) {
      const end = this.#texts.indexOf(0, offset);
      text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(
        this.#texts.subarray(offset, end < 0 ? this.#texts.length : end),
      );
      this.#replacements.set(offset, text);
    }
    return text;
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}
