/**
 * A decoder whose hidden states are wanted, not its next token: a text's vector, or labels' scores.
 *
 * In      the family's shape; config.json and sentence-transformers' files beside it
 * Out     the shape with poolings and steps instead of a head. Attention stays causal unless config.json says otherwise
 * Names   of a whole decoder (Qwen3ForCausalLM with modules.json, as Qwen3-Embedding is published), of a bare one (MistralModel) and of
 *         classifiers (LlamaForSequenceClassification)
 * Limits  the last token counts, also where it is the padding's
 * Source  transformers: modeling_layers.py (GenericForSequenceClassification, GenericForTokenClassification), masking_utils.py for
 *         `is_causal`, modeling_gemma3.py for `use_bidirectional_attention`
 */
import { CheckpointConfig } from '../checkpoint/config-file.js';
import { hasSentenceModules, readEmbedding } from '../checkpoint/sentence-modules.js';
import type { ModelShape } from '../plan/model-shape.js';
import { type HeadTraits, readHead, scoresTokens } from './classifier-head.js';

const HEAD: HeadTraits = {
  pooling: 'last',
  before: [],
  stem: 'score',
  hasBias: false,
  perToken: { before: [], stem: 'score', hasBias: true },
};

const ENDINGS = /(?:(?:Text)?Model|ForSequenceClassification|ForTokenClassification)$/;

/** Names of the decoders that generate, of which this one's family answers; empty: it is none whose hidden states are wanted. */
export function generatorsOf(config: CheckpointConfig): string[] {
  const name = config.strings('architectures', [])[0] ?? '';
  if (/(?:LMHead)Model$/.test(name) || !ENDINGS.test(name)) return [];
  const stem = name.replace(ENDINGS, '');
  return [`${stem}ForCausalLM`, `${stem}LMHeadModel`];
}

/** Whether what a family says of config.json must be changed by `asEmbedder`. */
export const wantsHidden = (config: CheckpointConfig): boolean =>
  generatorsOf(config).length > 0 || hasSentenceModules(config.folder);

/** config.json without what only an embedder may say. */
export function generatorConfig(config: CheckpointConfig): CheckpointConfig {
  const { is_causal: _, ...raw } = config.raw;
  const causal = isGemma3(config) ? { ...raw, use_bidirectional_attention: false } : raw;
  return new CheckpointConfig(causal, config.generation, config.folder);
}

/** @throws ServingError CHECKPOINT_INVALID */
export function asEmbedder(shape: ModelShape, config: CheckpointConfig): ModelShape {
  const { biases, contextLength, hiddenSize, names } = shape;
  const sizes = { hiddenSize, contextLength };
  const isClassifier = scoresTokens(config.strings('architectures', [])[0] ?? '') !== null;
  const embedding = isClassifier
    ? readHead(config, sizes, HEAD)
    : readEmbedding(config, { ...sizes, bare: 'last' });
  return {
    ...shape,
    ...bothWays(shape, config),
    embedding,
    tiedHead: false,
    biases: { ...biases, head: false },
    names: {
      ...names,
      head: null,
      renames: [...names.renames, ...withPrefix(names)],
      ignored: [...names.ignored, /^lm_head\./],
    },
  };
}

/** A bare decoder's tensors have no prefix. */
function withPrefix(names: ModelShape['names']): ModelShape['names']['renames'] {
  const at = names.embedding.indexOf('.');
  if (at < 0) return [];
  const prefix = names.embedding.slice(0, at + 1);
  const { attentionOut } = names.layer;
  const stems = [names.embedding, names.finalNorm, names.positions, attentionOut]
    .map((place) => (typeof place === 'object' ? (place?.stem ?? '') : place))
    .filter((stem) => stem.startsWith(prefix))
    .map((stem) => stem.slice(prefix.length).split('.')[0] ?? '');
  return [[new RegExp(`^(${[...new Set(stems)].join('|')})\\.`), `${prefix}$1.`]];
}

/** Every token sees every other; windows reach to both sides. */
function bothWays(
  { attention, windows }: ModelShape,
  config: CheckpointConfig,
): Pick<ModelShape, 'attention' | 'windows'> {
  const isHalved = isGemma3(config) && config.boolean('use_bidirectional_attention', false);
  if (!isHalved && config.boolean('is_causal', true)) return { attention, windows };
  return {
    attention: 'bidirectional',
    windows: windows.map((window) =>
      window === null ? null : isHalved ? Math.floor(window / 2) + 1 : window + 1,
    ),
  };
}

const isGemma3 = (config: CheckpointConfig): boolean => config.nullableString('model_type') === 'gemma3_text';
