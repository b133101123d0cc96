/**
 * How a text's hidden states become its vector, as sentence-transformers writes it beside the model.
 *
 * In      model folder: modules.json and the folders it names (1_Pooling, 2_Dense, 2_Normalize), sentence_bert_config.json,
 *         config_sentence_transformers.json, tokenizer_config.json; none of them need be there
 * Out     EmbeddingShape. Without modules.json: the mean, not normalised, which is what sentence-transformers does then
 * Limits  MAX_MODULES; MAX_CONFIG_FILE_BYTES a file
 * Errors  ServingError CHECKPOINT_INVALID: a module or a setting that is not computed here, by name
 * Source  sentence-transformers: modules Transformer, Pooling, Dense, Normalize. `is_matryoshka` and `matryoshka_dimensions` of
 *         config.json are vLLM's
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import type { Pooling } from '../../proto/manifest.js';
import type { EmbeddingShape, VectorStep } from '../plan/embedding-shape.js';
import type { CheckpointConfig } from './config-file.js';
import { ConfigSection } from './config-section.js';
import { checkpointError, entryOf, readJsonFile, readJsonList } from './json-file.js';

const MAX_MODULES = 16;

type DenseStep = Extract<VectorStep, { kind: 'dense' }>;

/** In the order in which their results stand side by side. */
const POOLINGS: readonly (readonly [string, Pooling])[] = [
  ['pooling_mode_cls_token', 'first'],
  ['pooling_mode_max_tokens', 'max'],
  ['pooling_mode_mean_tokens', 'mean'],
  ['pooling_mode_mean_sqrt_len_tokens', 'mean-sqrt'],
  ['pooling_mode_weightedmean_tokens', 'mean-by-place'],
  ['pooling_mode_lasttoken', 'last'],
];

/** Last part of the class's name in torch. */
const ACTIVATIONS: Readonly<Record<string, DenseStep['activation']>> = {
  Identity: 'none',
  Tanh: 'tanh',
  ReLU: 'relu',
  Sigmoid: 'sigmoid',
  GELU: 'gelu',
};

/** Names that the file has had; of these the first that is there counts. */
const TRANSFORMER_FILES = ['bert', 'roberta', 'distilbert', 'camembert', 'xlm-roberta'].map(
  (name) => `sentence_${name}_config.json`,
);

/**
 * @param config config.json; its folder is the model's
 * @param sizes.bare pooling of a folder without modules.json
 * @throws ServingError CHECKPOINT_INVALID
 */
export function readEmbedding(
  config: CheckpointConfig,
  { bare = 'mean', contextLength, hiddenSize }: { bare?: Pooling; contextLength: number; hiddenSize: number },
): EmbeddingShape {
  const { folder } = config;
  const { poolings, steps } = readModules(folder, hiddenSize, bare);
  const dimensions = steps.reduce(
    (size, step) => (step.kind === 'dense' ? step.outputs : size),
    poolings.length * hiddenSize,
  );
  // Without modules.json sentence-transformers takes the folder for a bare transformer.
  const isWhole = isThere(join(folder, 'modules.json'));
  const transformer = isWhole ? readOptional(folder, ...TRANSFORMER_FILES) : null;
  const longest =
    transformer?.nullablePositiveInteger('max_seq_length') ?? tokenizerLength(folder) ?? contextLength;
  return {
    poolings,
    steps,
    dimensions,
    textTokens: Math.min(longest, contextLength),
    lowerCase: transformer?.boolean('do_lower_case', false) ?? false,
    prefix: isWhole ? defaultPrompt(folder) : '',
    shorterDimensions: readShorterDimensions(config, dimensions),
    labels: null,
  };
}

function readModules(
  folder: string,
  hiddenSize: number,
  bare: Pooling,
): Pick<EmbeddingShape, 'poolings' | 'steps'> {
  const file = join(folder, 'modules.json');
  if (!isThere(file)) return { poolings: [bare], steps: [] };
  const modules = readJsonList(file, MAX_CONFIG_FILE_BYTES).map((raw) => new ConfigSection(raw, file));
  if (modules.length > MAX_MODULES) {
    throw checkpointError(file, `has ${modules.length} modules, the limit is ${MAX_MODULES}`);
  }
  const [transformer, pooling, ...others] = modules;
  if (!transformer || kindOf(transformer) !== 'Transformer' || transformer.string('path', '') !== '') {
    throw checkpointError(file, 'its first module must be a Transformer that lies in the folder itself');
  }
  if (!pooling || kindOf(pooling) !== 'Pooling') {
    throw checkpointError(file, 'its second module must be a Pooling');
  }
  const poolings = readPooling(folder, pathOf(pooling), hiddenSize);
  let size = poolings.length * hiddenSize;
  const steps = others.map((module): VectorStep => {
    const kind = kindOf(module);
    if (kind === 'Normalize') return { kind: 'normalise' };
    if (kind !== 'Dense') throw module.wrong('type', 'a Dense or Normalize module after the Pooling');
    const dense = readDense(folder, pathOf(module), size);
    size = dense.outputs;
    return dense;
  });
  return { poolings, steps };
}

function readPooling(folder: string, path: string, hiddenSize: number): Pooling[] {
  const config = readSection(join(folder, path, 'config.json'));
  for (const key of ['word_embedding_dimension', 'embedding_dimension']) {
    if (config.has(key) && config.raw[key] !== hiddenSize) {
      throw config.wrong(key, `the model's hidden size, ${hiddenSize}`);
    }
  }
  if (!config.boolean('include_prompt', true)) throw config.wrong('include_prompt', 'true');
  const known = new Set(POOLINGS.map(([key]) => key));
  for (const [key, value] of Object.entries(config.raw)) {
    if (key.startsWith('pooling_mode_') && value === true && !known.has(key)) {
      throw config.wrong(key, `false: known are ${[...known].join(', ')}`);
    }
  }
  if (config.has('pooling_mode')) return namedPoolings(config);
  const chosen = POOLINGS.filter(([key]) => config.boolean(key, false)).map(([, pooling]) => pooling);
  return chosen.length > 0 ? chosen : ['mean'];
}

/** The newer spelling: a name, or a list of them. */
function namedPoolings(config: ConfigSection): Pooling[] {
  const names: Readonly<Record<string, Pooling>> = {
    cls: 'first',
    max: 'max',
    mean: 'mean',
    mean_sqrt_len_tokens: 'mean-sqrt',
    weightedmean: 'mean-by-place',
    lasttoken: 'last',
  };
  const given = config.raw.pooling_mode;
  const found = (
    Array.isArray(given) ? config.strings('pooling_mode') : [config.string('pooling_mode')]
  ).flatMap((name) => entryOf(names, name) ?? []);
  if (found.length === 0 || found.length !== (Array.isArray(given) ? given.length : 1) || found.length > 6) {
    throw config.wrong('pooling_mode', `one or several of ${Object.keys(names).join(', ')}`);
  }
  return found;
}

function readDense(folder: string, path: string, inputs: number): DenseStep {
  const config = readSection(join(folder, path, 'config.json'));
  if (config.boolean('use_residual', false)) throw config.wrong('use_residual', 'false');
  for (const key of ['module_input_name', 'module_output_name']) {
    if (config.string(key, 'sentence_embedding') !== 'sentence_embedding') {
      throw config.wrong(key, '"sentence_embedding"');
    }
  }
  if (config.positiveInteger('in_features') !== inputs) {
    throw config.wrong('in_features', `${inputs}, which is what comes before it`);
  }
  const outputs = config.positiveInteger('out_features');
  if (outputs > 1 << 16) throw config.wrong('out_features', `at most ${1 << 16}`);
  const activation = entryOf(ACTIVATIONS, lastPart(config.string('activation_function', 'Tanh')));
  if (activation === undefined) {
    throw config.wrong('activation_function', `one of ${Object.keys(ACTIVATIONS).join(', ')}`);
  }
  const stem = `${path}/linear`;
  return {
    ...{ kind: 'dense', folder: path, stem, inputs, outputs },
    hasBias: config.boolean('bias', true),
    activation,
  };
}

/** What sentence-transformers puts before a text when nobody names a prompt. */
function defaultPrompt(folder: string): string {
  const config = readOptional(folder, 'config_sentence_transformers.json');
  const name = config?.nullableString('default_prompt_name') ?? null;
  return name === null ? '' : (config?.section('prompts')?.string(name) ?? '');
}

/** Whether sentence-transformers' files say what becomes of hidden states. */
export const hasSentenceModules = (folder: string): boolean => isThere(join(folder, 'modules.json'));

/** The tokenizer's own limit; 10^30 stands for none. */
export function tokenizerLength(folder: string): number | null {
  const length = readOptional(folder, 'tokenizer_config.json')?.nullableNumber('model_max_length') ?? null;
  return Number.isSafeInteger(length) && Number(length) > 0 ? length : null;
}

function readShorterDimensions(config: CheckpointConfig, dimensions: number): readonly number[] | null {
  if (config.has('matryoshka_dimensions')) {
    const sizes = config.raw.matryoshka_dimensions;
    const isSize = (size: unknown): size is number =>
      Number.isSafeInteger(size) && Number(size) > 0 && Number(size) <= dimensions;
    if (!Array.isArray(sizes) || !sizes.every(isSize) || sizes.length > 1000) {
      throw config.wrong('matryoshka_dimensions', `a list of sizes up to ${dimensions}`);
    }
    return sizes;
  }
  return config.boolean('is_matryoshka', false) ? [] : null;
}

const lastPart = (name: string): string => name.slice(name.lastIndexOf('.') + 1);
const kindOf = (module: ConfigSection): string => lastPart(module.string('type'));

/** A folder right below the model's. */
function pathOf(module: ConfigSection): string {
  const path = module.string('path');
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}$/.test(path)) throw module.wrong('path', 'the name of a folder');
  return path;
}

const isThere = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined;

function readSection(file: string): ConfigSection {
  return new ConfigSection(readJsonFile(file, MAX_CONFIG_FILE_BYTES).object, file);
}

function readOptional(folder: string, ...names: string[]): ConfigSection | null {
  const found = names.map((name) => join(folder, name)).find(isThere);
  return found === undefined ? null : readSection(found);
}
