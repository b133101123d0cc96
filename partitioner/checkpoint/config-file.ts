/**
 * A checkpoint's config.json and generation_config.json: values by key, each checked when it is asked for.
 *
 * In      a model folder
 * Out     CheckpointConfig; a family asks it for what it needs and ignores the rest
 * Limits  MAX_CONFIG_FILE_BYTES a file; MAX_END_IDS ends of text
 * Errors  ServingError CHECKPOINT_INVALID naming file, key, value and what was expected
 * Source  transformers' PretrainedConfig and GenerationConfig, RoPE in both its layouts (rope-parameters.ts)
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import { checkpointError, isJsonObject, type JsonObject, readJsonFile } from './json-file.js';
import { type RopeParameters, readRopeParameters } from './rope-parameters.js';

/** Llama 3.1 has three, the longest lists in use about ten. */
export const MAX_END_IDS = 64;

interface DefaultRange {
  expects: string;
  accepts(value: number): boolean;
}
const isShare: DefaultRange = {
  expects: 'a number above 0 and at most 1',
  accepts: (value) => value > 0 && value <= 1,
};
const isPenalty: DefaultRange = {
  expects: 'a number of -2 to 2',
  accepts: (value) => Math.abs(value) <= 2,
};
const whole = (least: number): DefaultRange => ({
  expects: `a whole number of at least ${least}`,
  accepts: (value) => Number.isSafeInteger(value) && value >= least,
});

/** Keys of generation_config.json that decide how a token is chosen, besides do_sample: what a request may say, too. */
const GENERATION_DEFAULTS: Readonly<Record<string, DefaultRange>> = {
  temperature: { expects: 'a number of at least 0', accepts: (value) => value >= 0 },
  // −1 and 0 both mean off.
  top_k: whole(-1),
  top_p: isShare,
  min_p: { expects: 'a number of 0 to 1', accepts: (value) => value >= 0 && value <= 1 },
  typical_p: isShare,
  repetition_penalty: { expects: 'a number above 0', accepts: (value) => value > 0 },
  presence_penalty: isPenalty,
  frequency_penalty: isPenalty,
  min_new_tokens: whole(0),
  max_new_tokens: whole(1),
};

/**
 * @param folder with config.json, and generation_config.json if the checkpoint has one
 * @throws ServingError CHECKPOINT_INVALID
 */
export function readModelConfig(folder: string): CheckpointConfig {
  const { object: raw } = readJsonFile(join(folder, 'config.json'), MAX_CONFIG_FILE_BYTES);
  const generationFile = join(folder, 'generation_config.json');
  const generation = statSync(generationFile, { throwIfNoEntry: false })
    ? readJsonFile(generationFile, MAX_CONFIG_FILE_BYTES).object
    : null;
  const config = new CheckpointConfig(raw, generation, folder);
  // They are needed when everything is written; wrong ones are told before.
  config.endIds();
  config.beginId();
  config.generationDefaults();
  return config;
}

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
  private value(key: string): unknown {
    return Object.hasOwn(this.raw, key) ? (this.raw[key] ?? null) : null;
  }

  private read<T>(
    key: string,
    expected: string,
    accept: (value: unknown) => value is T,
    fallback: T | undefined,
  ): T {
    const value = this.value(key);
    if (value === null) {
      if (fallback !== undefined) return fallback;
      throw checkpointError(this.where, `${key} is missing, expected ${expected}`);
    }
    if (!accept(value)) throw this.wrong(key, expected);
    return value;
  }

  /** The error for a value that a getter accepts and a family does not. @param expected for example "silu or gelu" */
  wrong(key: string, expected: string): Error {
    return checkpointError(this.where, `${key} is ${shorten(this.value(key))}, expected ${expected}`);
  }

  has(key: string): boolean {
    return this.value(key) !== null;
  }

  positiveInteger(key: string, fallback?: number): number {
    return this.read(key, 'a positive integer', isPositiveInteger, fallback);
  }

  nullablePositiveInteger(key: string): number | null {
    return this.has(key) ? this.positiveInteger(key) : null;
  }

  number(key: string, fallback?: number): number {
    return this.read(key, 'a finite number', isFiniteNumber, fallback);
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
    return this.read(key, 'true or false', isBoolean, fallback);
  }

  nullableBoolean(key: string): boolean | null {
    return this.has(key) ? this.boolean(key) : null;
  }

  string(key: string, fallback?: string): string {
    return this.read(key, 'a string', isString, fallback);
  }

  nullableString(key: string): string | null {
    return this.has(key) ? this.string(key) : null;
  }

  /** @throws also when an element is not a string */
  strings(key: string, fallback?: readonly string[]): readonly string[] {
    return this.read(key, 'a list of strings', isStrings, fallback);
  }

  /** An object below this one, or null when it is absent. */
  section(key: string): ConfigSection | null {
    if (!this.has(key)) return null;
    return new ConfigSection(
      this.read<JsonObject>(key, 'an object', isJsonObject, undefined),
      `${this.where}: ${key}`,
    );
  }

  /** One id or a list of them, or null when it is absent. */
  ids(key: string): readonly number[] | null {
    const value = this.value(key);
    if (value === null) return null;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    const expected = `a token id or a list of at most ${MAX_END_IDS}`;
    if (list.length > MAX_END_IDS || !list.every(isCount)) throw this.wrong(key, expected);
    return [...new Set(list)];
  }
}

export class CheckpointConfig extends ConfigSection {
  private readonly generationSection: ConfigSection | null;

  constructor(
    raw: JsonObject,
    /** generation_config.json, or null when there is none. */
    readonly generation: JsonObject | null,
    readonly folder: string,
  ) {
    super(raw, join(folder, 'config.json'));
    this.generationSection = generation
      ? new ConfigSection(generation, join(folder, 'generation_config.json'))
      : null;
  }

  /** Ids that end a text: generation_config.json's, else config.json's; may be empty. */
  endIds(): readonly number[] {
    return this.generationSection?.ids('eos_token_id') ?? this.ids('eos_token_id') ?? [];
  }

  /** Id that begins a text, or null. */
  beginId(): number | null {
    return this.ids('bos_token_id')?.[0] ?? this.generationSection?.ids('bos_token_id')?.[0] ?? null;
  }

  /** generation_config.json's sampling defaults as written there; keys that say nothing about choosing are dropped. */
  generationDefaults(): Record<string, number | boolean> {
    const defaults: Record<string, number | boolean> = {};
    const section = this.generationSection;
    if (!section) return defaults;
    if (section.has('do_sample')) defaults.do_sample = section.boolean('do_sample');
    for (const [key, { accepts, expects }] of Object.entries(GENERATION_DEFAULTS)) {
      if (!section.has(key)) continue;
      const value = section.number(key);
      if (!accepts(value)) throw section.wrong(key, expects);
      defaults[key] = value;
    }
    return defaults;
  }

  ropeParameters(): RopeParameters {
    return readRopeParameters(this);
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
