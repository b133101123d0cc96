/**
 * The bytes that each token adds to a text: what a grammar over bytes needs of a vocabulary.
 *
 * In      TokenTable
 * Out     bytes of each id as it stands in the middle of a text; null: special tokens and gaps, which are no text
 * Errors  CHECKPOINT_INVALID: a decoder that is not known
 */
import { isObject } from './checkpoint-text-file.js';
import { Detokenizer, type TokenTable } from './detokenizer.js';
import type { DecoderSource } from './token-decoders.js';
import { lettersToBytes } from './tokenizer-json-parts.js';

const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

/** @param count ids of the model; those of the tokenizer may be fewer */
export function tokenBytes(table: TokenTable, count: number): (Uint8Array | null)[] {
  const texts = new Detokenizer(table);
  const kinds = decoderKinds(table.decoder);
  return Array.from({ length: count }, (_, id) => {
    const token = table.tokens[id];
    if (token === undefined || token === null || token === '' || texts.isSpecial(id)) return null;
    if (kinds.has('ByteLevel')) return Uint8Array.from(lettersToBytes(token) ?? Buffer.from(token));
    const byte = kinds.has('ByteFallback') ? BYTE_TOKEN.exec(token)?.[1] : undefined;
    return byte === undefined ? Buffer.from(texts.tokenText(id)) : Uint8Array.of(Number.parseInt(byte, 16));
  });
}

function decoderKinds(source: DecoderSource): Set<string> {
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
