/**
 * server/text/gguf-tokenizer: tokenizers as llama.cpp's converter writes them into a GGUF file give the ids that the originals' reference
 * implementations gave (test/golden/tokenizers); and what is not known is refused.
 */
import { describe, expect, it } from 'vitest';
import type { GgufHeader, GgufValue } from '../../../proto/gguf-header.js';
import { ggufTokenizerConfig } from '../../../server/text/gguf-tokenizer.js';
import { readSentencePieceFile } from '../../../server/text/sentencepiece-file.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { goldenLines, readFamilyGolden, readSentencePieceGolden } from '../../support/tokenizer-goldens.js';

/** Every so many lines. */
const STRIDE = 4;
const LINES = goldenLines.map((line, index) => ({ line, index })).filter(({ index }) => index % STRIDE === 0);

function headerOf(metadata: Record<string, GgufValue>): GgufHeader {
  const entries = Object.entries(metadata).map(([key, value]) => [`tokenizer.${key}`, value] as const);
  return {
    path: 'model.gguf',
    metadata: new Map(entries),
    tensors: new Map(),
    dataStart: 0,
    bytes: 0,
    modifiedMs: 0,
  };
}

/** What convert_hf_to_gguf.py keeps of a byte-level tokenizer.json. */
function bytePairs(pre: string, json: Record<string, unknown>, beginId: number | undefined): GgufHeader {
  const { merges, vocab } = json.model as { merges: (string | string[])[]; vocab: Record<string, number> };
  const added = json.added_tokens as { id: number; content: string; special: boolean }[];
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  for (const { content, id } of added) tokens[id] = content;
  const kinds = tokens.map((_, id) => {
    const own = added.find((token) => token.id === id);
    return own === undefined ? 1 : own.special ? 3 : 4;
  });
  return headerOf({
    'ggml.model': 'gpt2',
    'ggml.pre': pre,
    'ggml.tokens': tokens,
    'ggml.token_type': kinds,
    'ggml.merges': merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
    ...(beginId === undefined ? {} : { 'ggml.bos_token_id': beginId, 'ggml.add_bos_token': true }),
  });
}

describe.each([
  ['gpt2', 'gpt-2'],
  ['llama3', 'llama-bpe'],
  ['qwen2', 'qwen2'],
  ['starcoder', 'starcoder'],
  ['gpt-oss', 'gpt-4o'],
  ['deepseek', 'deepseek-v3'],
])('%s as %s', (name, pre) => {
  it('makes the same ids of every line', () => {
    const golden = readFamilyGolden(name);
    const tokenizer = Tokenizer.fromGguf(bytePairs(pre, golden.tokenizer, golden.prefixIds[0]));
    const wrong = LINES.filter(({ index, line }) => {
      const expected = [...golden.prefixIds, ...golden.ids[index]!, ...golden.suffixIds];
      return tokenizer.encode(line).join() !== expected.join();
    });
    expect(wrong).toEqual([]);
  });
});

describe('SentencePiece', () => {
  it.each(['bpe-llama', 'bpe-gemma'])(
    'pieces and scores of %s make the same ids and texts of every line',
    (name) => {
      const golden = readSentencePieceGolden(name);
      const { addDummyPrefix, bosId, pieces, removeExtraWhitespaces } = readSentencePieceFile(golden.model);
      const tokenizer = Tokenizer.fromGguf(
        headerOf({
          'ggml.model': 'llama',
          'ggml.tokens': pieces.map(({ piece }) => piece),
          'ggml.scores': pieces.map(({ score }) => score),
          // Texts of the reference never become special tokens.
          'ggml.token_type': pieces.map(({ type }) => type),
          'ggml.bos_token_id': bosId,
          'ggml.add_space_prefix': addDummyPrefix,
          'ggml.remove_extra_whitespaces': removeExtraWhitespaces,
        }),
      );
      const specials = pieces
        .filter(({ type }) => type === 3 || type === 2 || type === 4)
        .map(({ piece }) => piece);
      const plain = LINES.filter(({ line }) => !specials.some((special) => line.includes(special)));
      expect(plain.length).toBeGreaterThan(LINES.length / 2);
      const wrong = plain.filter(({ index, line }) => {
        const ids = tokenizer.encode(line, { addSpecialTokens: false });
        return ids.join() !== golden.ids[index]!.join();
      });
      expect(wrong).toEqual([]);
      expect(tokenizer.encode('a')[0]).toBe(bosId);
    },
  );
});

describe('settings', () => {
  const header = headerOf({
    'ggml.tokens': ['<s>', '</s>', 'a', '<|im_end|>'],
    'ggml.bos_token_id': 0,
    'ggml.eos_token_id': 1,
    'ggml.padding_token_id': 9,
    chat_template: 'one',
    chat_templates: ['tool_use'],
    'chat_template.tool_use': 'two',
  });

  it('have the tokens by their texts, and every template', () => {
    expect(ggufTokenizerConfig(header)).toEqual({
      bos_token: '<s>',
      eos_token: '</s>',
      chat_template: [
        { name: 'default', template: 'one' },
        { name: 'tool_use', template: 'two' },
      ],
    });
  });

  it.each([
    [{ 'ggml.model': 'bert' }, 'tokenizer.ggml.model is "bert"'],
    [{ 'ggml.model': 'gpt2', 'ggml.pre': 'mine' }, 'tokenizer.ggml.pre is "mine", which is not known'],
    [
      { 'ggml.model': 'gpt2', 'ggml.pre': 'gpt-2', 'ggml.tokens': [1] },
      'tokenizer.ggml.tokens is [1], expected',
    ],
    [{ 'ggml.model': 'llama', 'ggml.tokens': ['a'], 'ggml.token_type': [7] }, 'token_type is not a kind'],
    [
      { 'ggml.model': 'llama', 'ggml.tokens': ['a'], 'ggml.token_type': [1] },
      'tokenizer.ggml.scores is missing',
    ],
  ] as [Record<string, GgufValue>, string][])('%j is refused', (metadata, message) => {
    expect(() => Tokenizer.fromGguf(headerOf(metadata))).toThrow(message);
  });
});
