/**
 * Metadata of one GGUF file by the names that its architecture gives them, each checked when it is asked for.
 *
 * In      a header, its architecture
 * Out     numbers, texts and truths; which keys were never asked for
 * Errors  ServingError CHECKPOINT_INVALID naming file, key, value and what was expected
 * Source  github.com/ggml-org/ggml docs/gguf.md "LLM"
 */
import { type GgufHeader, type GgufValue, ggufName } from '../../proto/gguf-header.js';
import { checkpointError } from './json-file.js';

export class GgufKeys {
  readonly #header: GgufHeader;
  readonly #prefix: string;
  readonly #asked = new Set<string>();

  constructor(header: GgufHeader, architecture: string) {
    this.#header = header;
    this.#prefix = `${architecture}.`;
  }

  get hiddenSize(): number {
    return this.size('embedding_length');
  }

  get numLayers(): number {
    return this.size('block_count');
  }

  get numHeads(): number {
    return this.size('attention.head_count');
  }

  get numKvHeads(): number {
    return this.size('attention.head_count_kv', this.numHeads);
  }

  get headDim(): number {
    const own = this.size('attention.key_length', this.hiddenSize / this.numHeads);
    this.#require('attention.value_length', own);
    return own;
  }

  /** A whole number above 0, or a list of equal ones: one a layer. */
  size(key: string, fallback?: number): number {
    const value = this.#value(key);
    const one = Array.isArray(value) && value.every((other) => other === value[0]) ? value[0] : value;
    if (one === undefined && fallback !== undefined) return fallback;
    if (typeof one !== 'number' || !Number.isSafeInteger(one) || one <= 0) {
      throw this.wrong(key, 'a whole number above 0, the same for all layers');
    }
    return one;
  }

  number(key: string, fallback?: number): number {
    const value = this.#value(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.wrong(key, 'a number');
    return value;
  }

  nullableNumber(key: string): number | null {
    return this.#value(key) === undefined ? null : this.number(key);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.#value(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value;
  }

  text(key: string, fallback: string): string {
    const value = this.#value(key) ?? fallback;
    if (typeof value !== 'string') throw this.wrong(key, 'a text');
    return value;
  }

  /** A key that may be there with these values, which change nothing. */
  neutral(key: string, ...values: readonly GgufValue[]): void {
    const value = this.#value(key);
    if (value === undefined || values.includes(value)) return;
    throw this.wrong(key, values.length === 0 ? 'none' : values.join(' or '));
  }

  /** Keys that say nothing about what is computed. */
  ignore(...keys: readonly string[]): void {
    for (const key of keys) this.#asked.add(key);
  }

  /** @throws ServingError CHECKPOINT_INVALID: a key of the architecture that nobody asked for */
  refuseOthers(): void {
    for (const name of this.#header.metadata.keys()) {
      if (!name.startsWith(this.#prefix) || this.#asked.has(name.slice(this.#prefix.length))) continue;
      throw checkpointError(
        this.#header.path,
        `the key ${ggufName(name)} is not known: it may change what the model computes`,
      );
    }
  }

  wrong(key: string, expected: string): Error {
    const shown = JSON.stringify(this.#value(key)) ?? 'missing';
    const cut = shown.length > 80 ? `${shown.slice(0, 80)}…` : shown;
    return checkpointError(this.#header.path, `${this.#prefix}${key} is ${cut}, expected ${expected}`);
  }

  #require(key: string, expected: number): void {
    if (this.size(key, expected) !== expected) throw this.wrong(key, String(expected));
  }

  #value(key: string): GgufValue | undefined {
    this.#asked.add(key);
    return this.#header.metadata.get(this.#prefix + key);
  }
}
