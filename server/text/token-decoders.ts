/**
 * The `decoder` of tokenizer.json: tokens to text.
 *
 * In      its JSON
 * Out     a function from tokens to texts, whose concatenation is the text
 * Limits  none
 * Errors  CHECKPOINT_INVALID for a kind that is not known
 *
 * Equal to Hugging Face tokenizers' (Rust) but for one thing: a run of byte tokens that is no UTF-8 is there one U+FFFD a byte of the
 * whole run, valid characters before the fault included, so nothing of a run could be sent before it ends. Here each broken
 * piece is one U+FFFD, as in byte-level decoding, and what is whole stays.
 */
import { isObject } from './checkpoint-text-file.js';
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

export function createTokenDecoder(json: unknown): TokenDecoder {
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

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

const decodeByteLevel: TokenDecoder = (tokens) => {
  const bytes: number[] = [];
  for (const token of tokens)
    for (const byte of lettersToBytes(token) ?? Buffer.from(token, 'utf8')) bytes.push(byte);
  return [utf8.decode(Uint8Array.from(bytes))];
};

const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

export const decodeByteTokens: TokenDecoder = (tokens) => {
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
