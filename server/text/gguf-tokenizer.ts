/**
 * The tokenizer and its settings out of a GGUF file's metadata, as tokenizer.json, tokenizer.model and tokenizer_config.json would have them.
 *
 * In      a header
 * Out     `tokenizer.ggml.model` gpt2: what tokenizer.json says; llama: a SentencePiece model of pieces with scores. tokenizer_config.json's keys,
 *         the chat template among them
 * Rules   `tokenizer.ggml.pre` names how a text is cut before its bytes are joined; one that is not in PRE_TOKENIZERS is refused, since another
 *         one would give other ids without a word
 * Errors  CHECKPOINT_INVALID naming the file, the key and what can be done
 * Source  llama.cpp's llama-vocab.cpp: kinds of tokens, defaults, which models begin with a begin-of-text; the expressions are those of the
 *         published tokenizer.json of each family, Qwen's normalizer too, which llama.cpp leaves out
 */
import { ServingError } from '../../proto/errors.js';
import { ggufId } from '../../proto/gguf-ends.js';
import type { GgufHeader, GgufValue } from '../../proto/gguf-header.js';
import { PIECE_KIND, type SentencePieceFile } from './sentencepiece-file.js';
import { MAX_VOCABULARY } from './tokenizer-json.js';

type Json = Record<string, unknown>;

/** Contractions, words with what stands before them, numbers in parts of so many digits, marks, white space. */
const wordsAndNumbers = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words are cut where a capital follows. */
const wordsByCase = (contraction: string, digits: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${contraction}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${contraction}|` +
  `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const split = (expression: string): Json => ({
  type: 'Split',
  pattern: { Regex: expression },
  behavior: 'Isolated',
  invert: false,
});
/** @param cuts false: what stands before has cut the text */
const byteLevel = (cuts: boolean): Json => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: cuts,
});
const digits = { type: 'Digits', individual_digits: true };

interface PreTokenizer {
  steps: readonly Json[];
  normalizer?: Json;
  /** A piece that is a token is that token, whatever joining gives. */
  ignoreMerges?: boolean;
  /** Texts begin with the begin-of-text where no key says otherwise. */
  addBos?: boolean;
}

const GPT2: PreTokenizer = { steps: [byteLevel(true)] };
const SINGLE_DIGITS: PreTokenizer = { steps: [digits, byteLevel(true)] };
const LLAMA3: PreTokenizer = { steps: [split(wordsAndNumbers('{1,3}')), byteLevel(false)] };
const LLAMA3_WHOLE: PreTokenizer = { ...LLAMA3, ignoreMerges: true, addBos: true };
const QWEN2: PreTokenizer = {
  steps: [split(wordsAndNumbers('')), byteLevel(false)],
  normalizer: { type: 'NFC' },
};
const GPT4O: PreTokenizer = {
  steps: [split(wordsByCase("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", '{1,3}')), byteLevel(false)],
};

const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ...['gpt-2', 'phi-2', 'olmo', 'exaone4'].map((name) => [name, GPT2] as const),
  ...['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone'].map(
    (name) => [name, SINGLE_DIGITS] as const,
  ),
  ...['llama3', 'llama-v3', 'llama-bpe', 'falcon3'].map((name) => [name, LLAMA3_WHOLE] as const),
  ...['dbrx', 'smaug-bpe'].map((name) => [name, LLAMA3] as const),
  ...['qwen2', 'deepseek-r1-qwen'].map((name) => [name, QWEN2] as const),
  ...['gpt-4o', 'llama4'].map((name) => [name, GPT4O] as const),
  ['tekken', { steps: [split(wordsByCase('', '')), byteLevel(false)], ignoreMerges: true, addBos: true }],
  [
    'deepseek-v3',
    {
      steps: [
        split('\\p{N}{1,3}'),
        split('[一-龥぀-ゟ゠-ヿ]+'),
        split(
          '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
        ),
        byteLevel(false),
      ],
    },
  ],
]);

/** @returns either what tokenizer.json would say, or a SentencePiece model and the settings beside it. @throws ServingError CHECKPOINT_INVALID */
export function ggufTokenizer(
  header: GgufHeader,
): { json: Json } | { model: SentencePieceFile; config: Json } {
  const kind = header.metadata.get('tokenizer.ggml.model');
  if (kind === 'gpt2') return { json: bytePairs(header) };
  if (kind === 'llama') return sentencePiece(header);
  throw wrong(header, `tokenizer.ggml.model is ${shown(kind)}, gpt2 and llama are read; ${INSTEAD}`);
}

/** The keys that tokenizer_config.json would have. */
export function ggufTokenizerConfig(header: GgufHeader): Json {
  const { metadata } = header;
  const tokens = textsOf(header, 'tokens');
  const config: Json = {};
  for (const [ours, theirs] of Object.entries(TOKEN_NAMES)) {
    const id = ggufId(header, theirs);
    if (id !== undefined) config[`${ours}_token`] = tokens[id];
  }
  const templates = [{ name: 'default', template: metadata.get('tokenizer.chat_template') }];
  const others = metadata.get('tokenizer.chat_templates');
  for (const name of Array.isArray(others) ? others.slice(0, MAX_TEMPLATES) : []) {
    templates.push({ name: String(name), template: metadata.get(`tokenizer.chat_template.${name}`) });
  }
  const there = templates.filter(({ template }) => typeof template === 'string');
  return there.length === 0 ? config : { ...config, chat_template: there };
}

const MAX_TEMPLATES = 100;
const INSTEAD = 'the tokenizer.json of the original model, put beside the file, is taken instead';
/** Our name of a token → ggml's. */
const TOKEN_NAMES = {
  ...{ bos: 'bos', eos: 'eos', unk: 'unknown', pad: 'padding' },
  ...{ sep: 'separator', cls: 'cls', mask: 'mask' },
};

function bytePairs(header: GgufHeader): Json {
  const pre = header.metadata.get('tokenizer.ggml.pre');
  const known = typeof pre === 'string' ? PRE_TOKENIZERS.get(pre) : undefined;
  if (known === undefined) {
    const names = [...PRE_TOKENIZERS.keys()].join(', ');
    throw wrong(header, `tokenizer.ggml.pre is ${shown(pre)}, which is not known (${names} are); ${INSTEAD}`);
  }
  const tokens = textsOf(header, 'tokens');
  const kinds = kindsOf(header, tokens.length);
  const added = [...tokens.entries()].filter(([id]) => isAdded(kinds[id]));
  const frame = frameOf(header, known.addBos ?? false);
  const one = (id: number | undefined): Json[] =>
    id === undefined ? [] : [{ SpecialToken: { id: tokens[id], type_id: 0 } }];
  const single = [...one(frame.before), { Sequence: { id: 'A', type_id: 0 } }, ...one(frame.after)];
  const inFrame = [frame.before, frame.after].filter((id) => id !== undefined);
  return {
    added_tokens: added.map(([id, content]) => ({ ...addedToken(content, kinds[id]), id })),
    normalizer: known.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: known.steps },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: textsOf(header, 'merges'),
      ignore_merges: known.ignoreMerges ?? false,
    },
    decoder: byteLevel(true),
    post_processor: {
      type: 'TemplateProcessing',
      single,
      pair: [],
      special_tokens: Object.fromEntries(
        inFrame.map((id) => [tokens[id], { id: tokens[id], ids: [id], tokens: [tokens[id]] }]),
      ),
    },
  };
}

function sentencePiece(header: GgufHeader): { model: SentencePieceFile; config: Json } {
  const { metadata } = header;
  const tokens = textsOf(header, 'tokens');
  const kinds = kindsOf(header, tokens.length);
  const scores = metadata.get('tokenizer.ggml.scores');
  if (!Array.isArray(scores) || scores.length !== tokens.length || typeof scores[0] !== 'number') {
    throw wrong(
      header,
      `tokenizer.ggml.scores is missing, or has not a score for each of ${tokens.length} tokens`,
    );
  }
  const frame = frameOf(header, true);
  // Phi-3's template sets line breaks behind its tokens that were never learned.
  const strips = metadata.get('general.architecture') === 'phi3';
  const added = [...tokens.entries()].filter(([id]) => isAdded(kinds[id]));
  return {
    model: {
      kind: 'bpe',
      pieces: tokens.map((piece, id) => ({ piece, score: Number(scores[id]), type: kinds[id] ?? 1 })),
      byteFallback: kinds.includes(PIECE_KIND.byte),
      whitespaceAsSuffix: false,
      unknownSurface: ' \u2047 ',
      bosId: frame.before ?? -1,
      eosId: frame.after ?? -1,
      charsmap: new Uint8Array(0),
      addDummyPrefix: flagOf(header, 'add_space_prefix', true),
      removeExtraWhitespaces: flagOf(header, 'remove_extra_whitespaces', false),
      escapeWhitespaces: true,
    },
    config: {
      added_tokens_decoder: Object.fromEntries(
        added.map(([id, content]) => {
          const rstrip = strips && content.startsWith('<|') && content !== '<|endoftext|>';
          return [id, { ...addedToken(content, kinds[id]), rstrip }];
        }),
      ),
      add_bos_token: frame.before !== undefined,
      add_eos_token: frame.after !== undefined,
    },
  };
}

const isAdded = (kind: number | undefined): boolean =>
  kind === PIECE_KIND.control || kind === PIECE_KIND.userDefined || kind === PIECE_KIND.unknown;

const addedToken = (content: string, kind: number | undefined): Json => ({
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: kind !== PIECE_KIND.userDefined,
});

/** What stands before and behind every text. */
function frameOf(
  header: GgufHeader,
  addBos: boolean,
): { before: number | undefined; after: number | undefined } {
  return {
    before: flagOf(header, 'add_bos_token', addBos) ? ggufId(header, 'bos') : undefined,
    after: flagOf(header, 'add_eos_token', false) ? ggufId(header, 'eos') : undefined,
  };
}

function flagOf(header: GgufHeader, key: string, fallback: boolean): boolean {
  const value = header.metadata.get(`tokenizer.ggml.${key}`) ?? fallback;
  if (typeof value !== 'boolean')
    throw wrong(header, `tokenizer.ggml.${key} is ${shown(value)}, expected true or false`);
  return value;
}

function textsOf(header: GgufHeader, key: string): readonly string[] {
  const value = header.metadata.get(`tokenizer.ggml.${key}`);
  const texts = Array.isArray(value) ? (value as readonly unknown[]) : null;
  if (texts === null || !texts.every((one) => typeof one === 'string') || texts.length > MAX_VOCABULARY) {
    throw wrong(header, `tokenizer.ggml.${key} is ${shown(value)}, expected at most ${MAX_VOCABULARY} texts`);
  }
  return texts as readonly string[];
}

function kindsOf(header: GgufHeader, count: number): readonly number[] {
  const value = header.metadata.get('tokenizer.ggml.token_type');
  const kinds = Array.isArray(value) ? (value as readonly unknown[]) : null;
  if (kinds?.length !== count || !kinds.every((kind) => typeof kind === 'number' && kind >= 0 && kind <= 6)) {
    throw wrong(header, `tokenizer.ggml.token_type is not a kind from 0 to 6 for each of ${count} tokens`);
  }
  return kinds as readonly number[];
}

function shown(value: GgufValue | undefined): string {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function wrong({ path }: GgufHeader, what: string): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `${path}: ${what}`);
}
