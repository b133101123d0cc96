/**
 * Reads tokenizer.json into the parts of a tokenizer.
 *
 * In      the parsed file
 * Out     TokenizerParts
 * Limits  MAX_VOCABULARY ids, MAX_ADDED_TOKEN_UNITS an added token; text-growth.ts's for parts that rewrite a text
 * Errors  CHECKPOINT_INVALID naming the part
 *
 * `truncation` and `padding` of the file are settings of a training run, and are not looked at.
 */
import { isObject } from '../../proto/is-object.js';
import { type AddedToken, AddedTokenSplitter, MAX_ADDED_TOKEN_UNITS } from './added-tokens.js';
import { createNormalizer } from './normalizers.js';
import { createFrame, type Frame } from './post-processors.js';
import { createPreTokenizer } from './pre-tokenizers.js';
import { checkTextGrowth, MAX_DECODER_GROWTH } from './text-growth.js';
import type { DecoderSource } from './token-decoders.js';
import { createTokenModel } from './token-models.js';
import { invalidTokenizer, shown } from './tokenizer-json-parts.js';

/** Ids are below this: they are array indices. */
export const MAX_VOCABULARY = 1 << 22;

export interface TokenizerParts {
  /** Ids of a text, nothing added. */
  encode(text: string): number[];
  frame: Frame;
  decoder: DecoderSource;
  /** Token of each id; holes where an id has none. */
  tokens: readonly (string | undefined)[];
  specialIds: ReadonlySet<number>;
}

/** @throws ServingError CHECKPOINT_INVALID */
export function readTokenizerJson(json: Record<string, unknown>): TokenizerParts {
  const model = createTokenModel(checkModel(json.model));
  const addedTokens = withVocabularyIds(checkAddedTokens(json.added_tokens), model.tokens);
  for (const part of ['normalizer', 'pre_tokenizer']) checkTextGrowth(json[part], part);
  checkTextGrowth(json.decoder, 'decoder', MAX_DECODER_GROWTH);
  const normalize = createNormalizer(json.normalizer);
  const preTokenize = createPreTokenizer(json.pre_tokenizer);
  const tokens = [...model.tokens];
  for (const { id, content } of addedTokens) tokens[id] = content;
  const frame = createFrame(json.post_processor);
  const { after = [], before = [], between = [] } = frame.pair ?? {};
  for (const id of [...frame.before, ...frame.after, ...before, ...between, ...after]) {
    if (tokens[id] === undefined) throw invalidTokenizer(`the post_processor's id ${id} is no token`);
  }
  const splitRaw = splitterOf(addedTokens, false, (text) => text);
  const splitNormalized = splitterOf(addedTokens, true, normalize);

  const encode = (text: string): number[] => {
    const ids: number[] = [];
    for (const [outer, raw] of splitRaw.split(text).entries()) {
      if (typeof raw === 'number') {
        ids.push(raw);
        continue;
      }
      for (const [inner, piece] of splitNormalized.split(normalize(raw)).entries()) {
        if (typeof piece === 'number') ids.push(piece);
        else if (piece !== '') {
          const { texts } = preTokenize({ texts: [piece], atStart: outer === 0 && inner === 0 });
          for (const pieceText of texts) model.encode(pieceText, ids);
        }
      }
    }
    return ids;
  };
  return {
    encode,
    frame,
    decoder: { kind: 'json', json: json.decoder },
    tokens,
    specialIds: new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id)),
  };
}

function splitterOf(
  tokens: readonly AddedToken[],
  normalized: boolean,
  normalize: (text: string) => string,
): AddedTokenSplitter {
  return new AddedTokenSplitter(
    new Map(
      tokens
        .filter((token) => token.normalized === normalized)
        .map((token) => [checkAddedUnits(normalize(token.content)), token] as const)
        .filter(([text]) => text !== ''),
    ),
  );
}

function checkModel(model: unknown): Record<string, unknown> {
  if (!isObject(model)) throw invalidTokenizer("it has no 'model' object");
  const { vocab } = model;
  if (Array.isArray(vocab)) {
    if (vocab.length > MAX_VOCABULARY)
      throw invalidTokenizer(`it has ${vocab.length} tokens, the limit is ${MAX_VOCABULARY}`);
  } else if (isObject(vocab)) {
    for (const [token, id] of Object.entries(vocab)) checkId(token, id);
  } else {
    throw invalidTokenizer("it has no 'vocab' in its 'model'");
  }
  return model;
}

function checkAddedTokens(list: unknown): AddedToken[] {
  const entries = list ?? [];
  if (!Array.isArray(entries)) throw invalidTokenizer("'added_tokens' is not a list");
  return entries.map(readAddedToken);
}

/** An entry of `added_tokens`. */
export function readAddedToken(entry: unknown): AddedToken {
  if (!isObject(entry) || typeof entry.content !== 'string')
    throw invalidTokenizer("an entry of 'added_tokens' has no 'content'");
  const { content } = entry;
  checkAddedUnits(content);
  const special = entry.special === true;
  return {
    id: checkId(content, entry.id),
    content,
    singleWord: entry.single_word === true,
    stripLeft: entry.lstrip === true,
    stripRight: entry.rstrip === true,
    normalized: typeof entry.normalized === 'boolean' ? entry.normalized : !special,
    special,
  };
}

function checkAddedUnits(content: string): string {
  if (content.length <= MAX_ADDED_TOKEN_UNITS) return content;
  throw invalidTokenizer(
    `an added token has ${content.length} characters, the limit is ${MAX_ADDED_TOKEN_UNITS}`,
  );
}

/** A token of the vocabulary keeps the id it has there, whatever the list says, as in the reference. */
function withVocabularyIds(
  addedTokens: readonly AddedToken[],
  tokens: readonly (string | undefined)[],
): AddedToken[] {
  const contents = new Set(addedTokens.map(({ content }) => content));
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries())
    if (token !== undefined && contents.has(token)) ids.set(token, id);
  return addedTokens.map((token) => ({ ...token, id: ids.get(token.content) ?? token.id }));
}

function checkId(token: string, id: unknown): number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_VOCABULARY) {
    throw invalidTokenizer(
      `token ${JSON.stringify(token.slice(0, 40))} has the id ${shown(id)}, must be 0 … ${MAX_VOCABULARY - 1}`,
    );
  }
  return id;
}
