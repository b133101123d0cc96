/**
 * One JSON object of a checkpoint: values by key, each checked when it is asked for.
 *
 * In      a parsed object
 * Out     typed values
 * Limits  MAX_END_IDS ids in a list
 * Errors  ServingError CHECKPOINT_INVALID naming file, key, value and what was expected
 */
import { checkpointError, isJsonObject, type JsonObject } from './json-file.js';

/** Llama 3.1 has three, the longest lists in use about ten. */
export const MAX_END_IDS = 64;

/** One JSON object of a checkpoint with typed reads. `fallback` stands for a key that is absent or null. */
export class ConfigSection {
  /**
   * @param raw the object
   * @param where file, and the key of the object if it is not the whole file; for messages
   */
  constructor(
    readonly raw: JsonObject,
    readonly where: string,
  ) {}

  /** Absent and null are the same: transformers writes null for "not set". */
  #value(key: string): unknown {
    return Object.hasOwn(this.raw, key) ? (this.raw[key] ?? null) : null;
  }

  #read<T>(
    key: string,
    expected: string,
    accept: (value: unknown) => value is T,
    fallback: T | undefined,
  ): T {
    const value = this.#value(key);
    if (value === null) {
      if (fallback !== undefined) return fallback;
      throw checkpointError(this.where, `${key} is missing, expected ${expected}`);
    }
    if (!accept(value)) throw this.wrong(key, expected);
    return value;
  }

  /** The error for a value that a getter accepts and a family does not. @param expected for example "silu or gelu" */
  wrong(key: string, expected: string): Error {
    return checkpointError(this.where, `${key} is ${shorten(this.#value(key))}, expected ${expected}`);
  }

  has(key: string): boolean {
    return this.#value(key) !== null;
  }

  positiveInteger(key: string, fallback?: number): number {
    return this.#read(key, 'a positive integer', isPositiveInteger, fallback);
  }

  nullablePositiveInteger(key: string): number | null {
    return this.has(key) ? this.positiveInteger(key) : null;
  }

  number(key: string, fallback?: number): number {
    return this.#read(key, 'a finite number', isFiniteNumber, fallback);
  }

  nullableNumber(key: string): number | null {
    return this.has(key) ? this.number(key) : null;
  }

  positiveNumber(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (value <= 0) throw this.wrong(key, 'a number above 0');
    return value;
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#read(key, 'true or false', isBoolean, fallback);
  }

  nullableBoolean(key: string): boolean | null {
    return this.has(key) ? this.boolean(key) : null;
  }

  string(key: string, fallback?: string): string {
    return this.#read(key, 'a string', isString, fallback);
  }

  nullableString(key: string): string | null {
    return this.has(key) ? this.string(key) : null;
  }

  /** @throws also when an element is not a string */
  strings(key: string, fallback?: readonly string[]): readonly string[] {
    return this.#read(key, 'a list of strings', isStrings, fallback);
  }

  /** An object below this one, or null when it is absent. */
  section(key: string): ConfigSection | null {
    if (!this.has(key)) return null;
    return new ConfigSection(
      this.#read<JsonObject>(key, 'an object', isJsonObject, undefined),
      `${this.where}: ${key}`,
    );
  }

  /** One id or a list of them, or null when it is absent. */
  ids(key: string): readonly number[] | null {
    const value = this.#value(key);
    if (value === null) return null;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    const expected = `a token id or a list of at most ${MAX_END_IDS}`;
    if (list.length > MAX_END_IDS || !list.every(isCount)) throw this.wrong(key, expected);
    return [...new Set(list)];
  }
}

const isPositiveInteger = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isFiniteNumber = (value: unknown): value is number => Number.isFinite(value);
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const isString = (value: unknown): value is string => typeof value === 'string';
const isStrings = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every(isString);

/** A value as it stands in the file, cut: a message is one line. */
function shorten(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
