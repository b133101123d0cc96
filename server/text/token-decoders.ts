/**
 * Tokens to text: the `decoder` of tokenizer.json, or what a SentencePiece model says of its own.
 *
 * In      its JSON; a SentencePiece model's flags
 * Out     a function from tokens to texts, whose concatenation is the text
 * Limits  it runs on the server's own thread, once a token: a Replace takes no expression that could go back (SIMPLE_REGEX)
 * Errors  CHECKPOINT_INVALID for a kind that is not known, an expression that is not simple
 *
 * Equal to Hugging Face tokenizers' (Rust) but for one thing: a run of byte tokens that is no UTF-8 is there one U+FFFD a byte of the
 * whole run, valid characters before the fault included, so nothing of a run could be sent before it ends. Here each broken
 * piece is one U+FFFD, as in byte-level decoding, and what is whole stays.
 */
import { isObject } from '../../proto/is-object.js';
import {
  compilePattern,
  invalidTokenizer,
  lettersToBytes,
  listOf,
  shown,
  someText,
  textOf,
} from './tokenizer-json-parts.js';

export type TokenDecoder = (tokens: readonly string[]) => readonly string[];

/** What a decoder is made of: it passes from the tokenizer's process to the server as JSON. */
export type DecoderSource =
  | { kind: 'json'; json: unknown }
  | {
      kind: 'sentencepiece';
      unknown: string | null;
      unknownSurface: string;
      /** Their texts stay as they are. */
      controls: readonly string[];
      addDummyPrefix: boolean;
      removeExtraWhitespaces: boolean;
    };

/** Each place of a text is looked at once: characters and classes, nothing that repeats, groups, chooses or looks around. */
const SIMPLE_REGEX = /^(?:[^\\()[\]{}*+?|]|\\[^\dkpP]|\[[^[\]\\]*\])*$/u;

/** @throws ServingError CHECKPOINT_INVALID */
export function createDecoder(source: DecoderSource): TokenDecoder {
  return source.kind === 'json' ? createTokenDecoder(source.json) : sentencePiece(source);
}

/** The parts that it has, as tokenizer.json names them. */
export function decoderKinds(source: DecoderSource): Set<string> {
  if (source.kind === 'sentencepiece') return new Set(['ByteFallback']);
  const kinds = new Set<string>();
  const open: unknown[] = [source.json];
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    if (!isObject(part)) continue;
    if (typeof part.type === 'string') kinds.add(part.type);
    if (Array.isArray(part.decoders)) open.push(...part.decoders);
  }
  return kinds;
}

function createTokenDecoder(json: unknown): TokenDecoder {
  // Without a decoder the reference sets spaces between tokens.
  if (json === null || json === undefined) return (tokens) => [tokens.join(' ')];
  if (!isObject(json)) throw invalidTokenizer("'decoder' is not an object");
  switch (json.type) {
    case 'Sequence': {
      const parts = listOf(json, 'decoders').map(createTokenDecoder);
      return (tokens) => parts.reduce((done, part) => part(done), tokens);
    }
    case 'ByteLevel':
      return decodeByteLevel;
    case 'ByteFallback':
      return decodeByteTokens;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Replace': {
      checkSimple(json.pattern);
      const pattern = compilePattern(json.pattern);
      const content = textOf(json, 'content');
      return (tokens) => tokens.map((token) => token.replace(pattern, () => content));
    }
    case 'Strip':
      return strip(json);
    case 'Metaspace':
      return metaspace(json);
    case 'WordPiece':
      return wordPiece(json);
    case 'BPEDecoder': {
      const suffix = json.suffix === undefined ? '</w>' : someText(json, 'suffix');
      return (tokens) =>
        tokens.map((token, index) => token.replaceAll(suffix, index === tokens.length - 1 ? '' : ' '));
    }
    default:
      throw invalidTokenizer(`Unknown Decoder type: ${shown(json.type)}`);
  }
}

function checkSimple(pattern: unknown): void {
  const regex = isObject(pattern) ? pattern.Regex : undefined;
  if (typeof regex !== 'string' || SIMPLE_REGEX.test(regex)) return;
  throw invalidTokenizer(
    `a decoder's Replace with the expression ${shown(regex)}: it would run with every token, and only characters and classes ` +
      'are served there',
  );
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

const decodeByteLevel: TokenDecoder = (tokens) => {
  const bytes: number[] = [];
  for (const token of tokens)
    for (const byte of lettersToBytes(token) ?? Buffer.from(token, 'utf8')) bytes.push(byte);
  return [utf8.decode(Uint8Array.from(bytes))];
};

export const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

const decodeByteTokens: TokenDecoder = (tokens) => {
  const texts: string[] = [];
  let bytes: number[] = [];
  const end = (): void => {
    if (bytes.length > 0) texts.push(utf8.decode(Uint8Array.from(bytes)));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = BYTE_TOKEN.exec(token)?.[1];
    if (byte !== undefined) {
      bytes.push(Number.parseInt(byte, 16));
      continue;
    }
    end();
    texts.push(token);
  }
  end();
  return texts;
};

function strip(json: Record<string, unknown>): TokenDecoder {
  const content = someText(json, 'content');
  const count = (field: string): number => {
    const value = json[field] ?? 0;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
      throw invalidTokenizer(`'${field}' of a Strip decoder is not a count`);
    return value;
  };
  const start = count('start');
  const stop = count('stop');
  return (tokens) =>
    tokens.map((token) => {
      let text = token;
      for (let done = 0; done < start && text.startsWith(content); done += 1)
        text = text.slice(content.length);
      for (let done = 0; done < stop && text.endsWith(content); done += 1)
        text = text.slice(0, -content.length);
      return text;
    });
}

/** The first token loses all its marks, not one. */
function metaspace(json: Record<string, unknown>): TokenDecoder {
  const mark = json.replacement === undefined ? '▁' : someText(json, 'replacement');
  const scheme = json.prepend_scheme ?? (json.add_prefix_space === false ? 'never' : 'always');
  return (tokens) =>
    tokens.map((token, index) => token.replaceAll(mark, index === 0 && scheme !== 'never' ? '' : ' '));
}

/** Joined as BERT's own clean-up does, token by token. */
const CLEAN_UP: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function wordPiece(json: Record<string, unknown>): TokenDecoder {
  const prefix = json.prefix === undefined ? '##' : textOf(json, 'prefix');
  const cleanUp = json.cleanup !== false;
  return (tokens) =>
    tokens.map((token, index) => {
      let text = token;
      if (index > 0)
        text = prefix !== '' && token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      if (cleanUp) for (const [from, to] of CLEAN_UP) text = text.replaceAll(from, to);
      return text;
    });
}

const SPACE_MARK = '▁';

/** Spaces at the start of a text go: the dummy prefix, or all of them where the model takes extra spaces away. */
function sentencePiece({
  addDummyPrefix,
  controls,
  removeExtraWhitespaces,
  unknown,
  unknownSurface,
}: Extract<DecoderSource, { kind: 'sentencepiece' }>): TokenDecoder {
  const isControl = new Set(controls);
  const stripsStart = addDummyPrefix || removeExtraWhitespaces;
  return (tokens) => {
    let isStart = true;
    const texts: string[] = [];
    for (const text of decodeByteTokens(tokens)) {
      if (isControl.has(text)) {
        texts.push(text);
        continue;
      }
      let piece = text === unknown ? unknownSurface : text;
      let sawStart = false;
      if (isStart && stripsStart && piece.startsWith(SPACE_MARK)) {
        piece = piece.slice(SPACE_MARK.length);
        sawStart = !removeExtraWhitespaces;
      }
      texts.push(piece.replaceAll(SPACE_MARK, ' '));
      if (sawStart || piece !== '') isStart = false;
    }
    return texts;
  };
}
