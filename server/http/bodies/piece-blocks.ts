/**
 * A body that comes in a million pieces, in blocks: each piece that is kept by itself costs a hundred bytes more than it has.
 *
 * In      pieces in order, the end
 * Out     blocks of BLOCK_BYTES, made of small pieces; large pieces as they came
 * Pure
 */
const BLOCK_BYTES = 16_384;
const SMALL_BYTES = 4096;

export class PieceBlocks {
  readonly #put: (block: Buffer) => void;
  #block: Buffer | null = null;
  #used = 0;

  constructor(put: (block: Buffer) => void) {
    this.#put = put;
  }

  add(piece: Buffer): void {
    if (this.#used + piece.length > BLOCK_BYTES || piece.length >= SMALL_BYTES) this.end();
    if (piece.length >= SMALL_BYTES) {
      this.#put(piece);
      return;
    }
    this.#block ??= Buffer.allocUnsafeSlow(BLOCK_BYTES);
    piece.copy(this.#block, this.#used);
    this.#used += piece.length;
  }

  /** What is left. */
  end(): void {
    if (this.#block !== null && this.#used > 0) this.#put(this.#block.subarray(0, this.#used));
    this.#block = null;
    this.#used = 0;
  }
}
