/**
 * The head of a classifier: what its labels' scores are made of, of a whole text or of each of its tokens.
 *
 * In      config.json (`architectures`, `id2label`, `num_labels`, `problem_type`; sentence-transformers' keys of a cross-encoder), the
 *         family's layers between hidden states and scores
 * Out     EmbeddingShape whose vector are the scores; null: the model is no classifier
 * Limits  MAX_LABELS
 * Errors  ServingError CHECKPOINT_INVALID: labels that are no list, a function of scores that is not known
 * Source  transformers: modeling_bert.py and its namesakes, pipelines/text_classification.py for the function of the scores;
 *         sentence-transformers' CrossEncoder for that of two texts
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { entryOf, isJsonObject } from '../checkpoint/json-file.js';
import { tokenizerLength } from '../checkpoint/sentence-modules.js';
import type { EmbeddingShape, LabelActivation, LabelsShape, VectorStep } from '../plan/embedding-shape.js';

const MAX_LABELS = 100_000;

type Pooling = EmbeddingShape['poolings'][number];

export interface HeadTraits {
  /** What becomes of a whole text. */
  pooling: Pooling;
  /** From the pooled states to the last layer's inputs. */
  before: readonly VectorStep[];
  /** Last layer, of so many outputs as there are labels. */
  stem: string;
  hasBias: boolean;
  /** What becomes of each token; absent: as of a text. */
  perToken?: Pick<HeadTraits, 'before' | 'stem' | 'hasBias'>;
}

/** A dense layer of as many outputs as inputs. */
export const squareDense = (
  stem: string,
  size: number,
  activation: Extract<VectorStep, { kind: 'dense' }>['activation'],
  hasBias = true,
): VectorStep => ({ kind: 'dense', folder: null, stem, inputs: size, outputs: size, hasBias, activation });

const KINDS = { ForSequenceClassification: false, ForTokenClassification: true } as const;

/** Whether a model of this name scores the tokens of a text, or the text; null: neither. */
export function scoresTokens(architecture: string): boolean | null {
  const ending = (Object.keys(KINDS) as (keyof typeof KINDS)[]).find((kind) => architecture.endsWith(kind));
  return ending === undefined ? null : KINDS[ending];
}

/** Names of a family's classifiers. */
export const classifiersOf = (...stems: readonly string[]): string[] =>
  stems.flatMap((stem) => Object.keys(KINDS).map((kind) => `${stem}${kind}`));

/** @throws ServingError CHECKPOINT_INVALID */
export function readHead(
  config: CheckpointConfig,
  { contextLength, hiddenSize }: { contextLength: number; hiddenSize: number },
  traits: HeadTraits,
): EmbeddingShape | null {
  const perToken = scoresTokens(config.strings('architectures', [])[0] ?? '');
  if (perToken === null) return null;
  const { before, hasBias, stem } = (perToken ? traits.perToken : undefined) ?? traits;
  const names = readLabels(config);
  const last: VectorStep = {
    ...{ kind: 'dense', folder: null, stem, inputs: hiddenSize, outputs: names.length },
    ...{ hasBias, activation: 'none' },
  };
  return {
    poolings: perToken ? [] : [traits.pooling],
    steps: [...before, last],
    dimensions: names.length,
    textTokens: Math.min(tokenizerLength(config.folder) ?? contextLength, contextLength),
    lowerCase: false,
    prefix: '',
    shorterDimensions: null,
    labels: { names, perToken, ...readActivations(config, names.length, perToken) },
  };
}

/** By their index; without names LABEL_0 and so on, two if nothing says how many. */
function readLabels(config: CheckpointConfig): string[] {
  const given = config.raw.id2label ?? null;
  const count = config.nullablePositiveInteger('num_labels');
  const numbered = (size: number): string[] => Array.from({ length: size }, (_, index) => `LABEL_${index}`);
  if (given === null) {
    if (count !== null && count > MAX_LABELS) throw config.wrong('num_labels', `at most ${MAX_LABELS}`);
    return numbered(count ?? 2);
  }
  const entries = isJsonObject(given) ? Object.entries(given) : [];
  const names = new Map(entries.map(([id, name]) => [id, typeof name === 'string' ? name : String(name)]));
  if (names.size === 0 || names.size > MAX_LABELS)
    throw config.wrong('id2label', `1 to ${MAX_LABELS} labels`);
  return numbered(names.size).map((_, index) => {
    const name = names.get(String(index));
    if (name === undefined || name.length > 1000) {
      throw config.wrong(
        'id2label',
        `a name of at most 1000 characters for each index up to ${names.size - 1}`,
      );
    }
    return name;
  });
}

const FUNCTIONS: Readonly<Record<string, LabelActivation>> = {
  sigmoid: 'sigmoid',
  softmax: 'softmax',
  none: 'none',
};
const MODULES: Readonly<Record<string, LabelActivation>> = {
  Identity: 'none',
  Sigmoid: 'sigmoid',
  Softmax: 'softmax',
};

function readActivations(
  config: CheckpointConfig,
  labels: number,
  perToken: boolean,
): Pick<LabelsShape, 'activation' | 'pairActivation'> {
  const problem = config.nullableString('problem_type');
  const function_ = config.nullableString('function_to_apply');
  const usual: LabelActivation =
    problem === 'regression'
      ? 'none'
      : problem === 'multi_label_classification' || labels === 1
        ? 'sigmoid'
        : 'softmax';
  const said = function_ === null ? usual : entryOf(FUNCTIONS, function_);
  if (said === undefined) throw config.wrong('function_to_apply', Object.keys(FUNCTIONS).join(', '));
  const module =
    config.section('sentence_transformers')?.nullableString('activation_fn') ??
    config.nullableString('sbert_ce_default_activation_function');
  const usualPair: LabelActivation = labels === 1 ? 'sigmoid' : 'none';
  const pair = module === null ? usualPair : entryOf(MODULES, module.slice(module.lastIndexOf('.') + 1));
  if (pair === undefined) {
    throw config.wrong('sentence_transformers', `an activation_fn of ${Object.keys(MODULES).join(', ')}`);
  }
  return { activation: perToken ? 'softmax' : said, pairActivation: pair };
}
