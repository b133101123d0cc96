/**
 * A checkpoint's config.json and generation_config.json: values by key, each checked when it is asked for.
 *
 * In      a model folder, or a GGUF file
 * Out     CheckpointConfig; of GGUF made of its metadata (gguf-config.ts); a family asks it for what it needs and ignores the rest
 * Limits  MAX_CONFIG_FILE_BYTES a file; MAX_END_IDS ends of text
 * Errors  ServingError CHECKPOINT_INVALID naming file, key, value and what was expected
 * Source  transformers' PretrainedConfig and GenerationConfig, RoPE in both its layouts (rope-parameters.ts)
 */
import { statSync } from 'node:fs';
import path, { join } from 'node:path';
import { ggufOf, isGgufFile } from '../../proto/gguf-folder.js';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import { ConfigSection } from './config-section.js';
import { readGgufConfig } from './gguf-config.js';
import { type GgufParts, readGgufParts } from './gguf-parts.js';
import { type JsonObject, readJsonFile } from './json-file.js';
import { type RopeParameters, readRopeParameters } from './rope-parameters.js';

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
 * @param folder with config.json, and generation_config.json if the checkpoint has one; or with a GGUF file, or that file
 * @throws ServingError CHECKPOINT_INVALID
 */
export function readModelConfig(folder: string): CheckpointConfig {
  const file = ggufOf(folder);
  if (file === null) return checked(readFiles(folder));
  const gguf = readGgufParts(file);
  const { generation, raw } = readGgufConfig(gguf);
  return checked(
    new CheckpointConfig(raw, generation, isGgufFile(folder) ? path.dirname(folder) : folder, gguf),
  );
}

function readFiles(folder: string): CheckpointConfig {
  const { object: raw } = readJsonFile(join(folder, 'config.json'), MAX_CONFIG_FILE_BYTES);
  const generationFile = join(folder, 'generation_config.json');
  const generation = statSync(generationFile, { throwIfNoEntry: false })
    ? readJsonFile(generationFile, MAX_CONFIG_FILE_BYTES).object
    : null;
  return new CheckpointConfig(raw, generation, folder);
}

function checked(config: CheckpointConfig): CheckpointConfig {
  // They are needed when everything is written; wrong ones are told before.
  config.endIds();
  config.beginId();
  config.generationDefaults();
  return config;
}

export class CheckpointConfig extends ConfigSection {
  readonly #generationSection: ConfigSection | null;

  constructor(
    raw: JsonObject,
    /** generation_config.json, or null when there is none. */
    readonly generation: JsonObject | null,
    readonly folder: string,
    /** The GGUF file that says all of it, and has the weights; null: files of the folder. */
    readonly gguf: GgufParts | null = null,
  ) {
    super(raw, gguf?.whole.path ?? join(folder, 'config.json'));
    this.#generationSection = generation
      ? new ConfigSection(generation, gguf?.whole.path ?? join(folder, 'generation_config.json'))
      : null;
  }

  /** Ids that end a text: generation_config.json's, else config.json's; may be empty. */
  endIds(): readonly number[] {
    const own = this.#generationSection?.ids('eos_token_id') ?? this.ids('eos_token_id');
    return own ?? this.section('text_config')?.ids('eos_token_id') ?? [];
  }

  /** Id that begins a text, or null. */
  beginId(): number | null {
    const own = this.ids('bos_token_id')?.[0] ?? this.#generationSection?.ids('bos_token_id')?.[0];
    return own ?? this.section('text_config')?.ids('bos_token_id')?.[0] ?? null;
  }

  /** generation_config.json's sampling defaults as written there; keys that say nothing about choosing are dropped. */
  generationDefaults(): Record<string, number | boolean> {
    const defaults: Record<string, number | boolean> = {};
    const section = this.#generationSection;
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
