/**
 * A message of 32-bit words between the choosers of a group: integers, floats, doubles (two words) and arrays of them.
 *
 * Both ends are this program on machines of one byte order; a message that is shorter than what is read from it is a bug.
 */
import assert from 'node:assert/strict';

const FIRST_WORDS = 1024;

export class WordWriter {
  #ints = new Int32Array(FIRST_WORDS);
  #floats = new Float32Array(this.#ints.buffer);
  #used = 0;
  readonly #double = new Float64Array(1);
  readonly #doubleWords = new Int32Array(this.#double.buffer);

  reset(): void {
    this.#used = 0;
  }

  int(value: number): void {
    this.#reserve(1);
    this.#ints[this.#used++] = value;
  }

  float(value: number): void {
    this.#reserve(1);
    this.#floats[this.#used++] = value;
  }

  float64(value: number): void {
    this.#reserve(2);
    this.#double[0] = value;
    this.#ints[this.#used++] = this.#doubleWords[0]!;
    this.#ints[this.#used++] = this.#doubleWords[1]!;
  }

  intArray(values: Int32Array, count: number): void {
    this.#reserve(count);
    this.#ints.set(count === values.length ? values : values.subarray(0, count), this.#used);
    this.#used += count;
  }

  floatArray(values: Float32Array, count: number): void {
    this.#reserve(count);
    this.#floats.set(count === values.length ? values : values.subarray(0, count), this.#used);
    this.#used += count;
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.int(bytes.length);
    const words = Math.ceil(bytes.length / 4);
    this.#reserve(words);
    new Uint8Array(this.#ints.buffer).set(bytes, this.#used * 4);
    this.#used += words;
  }

  /** The message, valid until the next reset. */
  message(): Uint8Array {
    return new Uint8Array(this.#ints.buffer, 0, this.#used * 4);
  }

  #reserve(words: number): void {
    const needed = this.#used + words;
    if (needed <= this.#ints.length) return;
    const grown = new Int32Array(Math.max(needed, this.#ints.length * 2));
    grown.set(this.#ints);
    this.#ints = grown;
    this.#floats = new Float32Array(grown.buffer);
  }
}

export class WordReader {
  #ints: Int32Array;
  #floats: Float32Array;
  #at = 0;
  readonly #double = new Float64Array(1);
  readonly #doubleWords = new Int32Array(this.#double.buffer);

  constructor(message: Uint8Array) {
    const aligned = message.byteOffset % 4 === 0 ? message : new Uint8Array(message);
    const words = aligned.byteLength >> 2;
    this.#ints = new Int32Array(aligned.buffer, aligned.byteOffset, words);
    this.#floats = new Float32Array(aligned.buffer, aligned.byteOffset, words);
  }

  int(): number {
    return this.#ints[this.#take(1)]!;
  }

  float(): number {
    return this.#floats[this.#take(1)]!;
  }

  float64(): number {
    const at = this.#take(2);
    this.#doubleWords[0] = this.#ints[at]!;
    this.#doubleWords[1] = this.#ints[at + 1]!;
    return this.#double[0]!;
  }

  /** A view of the message. */
  intArray(count: number): Int32Array {
    const at = this.#take(count);
    return this.#ints.subarray(at, at + count);
  }

  /** A view of the message. */
  floatArray(count: number): Float32Array {
    const at = this.#take(count);
    return this.#floats.subarray(at, at + count);
  }

  text(): string {
    const length = this.int();
    const at = this.#take(Math.ceil(length / 4));
    return new TextDecoder().decode(
      new Uint8Array(this.#ints.buffer, this.#ints.byteOffset + at * 4, length),
    );
  }

  #take(words: number): number {
    const at = this.#at;
    assert(words >= 0 && at + words <= this.#ints.length, `${words} words at ${at} of ${this.#ints.length}`);
    this.#at = at + words;
    return at;
  }
}
