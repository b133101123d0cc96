/** server/text: what a tokenizer.json may not ask for. Each case but the last ones once hung, or filled the memory, or ended in a RangeError. */
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../../../server/text/tokenizer.js';

const MODEL = { type: 'WordLevel', vocab: { a: 0, '<unk>': 1 }, unk_token: '<unk>' };
const load = (parts: Record<string, unknown>): Tokenizer => Tokenizer.fromJson({ model: MODEL, ...parts });
const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
const many = <T>(count: number, part: T): T[] => Array.from({ length: count }, () => part);

describe('is refused', () => {
  it.each<[string, Record<string, unknown>, string]>([
    [
      'a normalizer that doubles forty times',
      { normalizer: { type: 'Sequence', normalizers: many(40, double) } },
      'its normalizer can make a text 1099511627776 times as long, the limit is 4096',
    ],
    [
      'a decoder that doubles forty times',
      { decoder: { type: 'Sequence', decoders: many(40, double) } },
      'its decoder can make a text 1099511627776 times as long, the limit is 64',
    ],
    [
      'a pre-tokenizer that spells letters of letters',
      { pre_tokenizer: { type: 'Sequence', pretokenizers: many(20, { type: 'ByteLevel' }) } },
      'its pre_tokenizer can make a text 1099511627776 times as long',
    ],
    [
      'a megabyte before every text',
      { normalizer: { type: 'Prepend', prepend: 'x'.repeat(1e6) } },
      'its normalizer can make a text 1000001 times as long',
    ],
    [
      'parts without end',
      { normalizer: { type: 'Sequence', normalizers: many(100_000, { type: 'Strip' }) } },
      'its normalizer has 100000 parts, the limit is 64',
    ],
    [
      // Found by the fuzzer: the ids were not checked, and an array of 2³¹ was walked.
      'a vocabulary of ids where pairs belong',
      { model: { type: 'BPE', vocab: [2147483647, 0.5], merges: [], unk_token: null } },
      "the 'vocab' of a BPE model is a list",
    ],
    [
      'a vocabulary of pairs where ids belong',
      { model: { type: 'Unigram', vocab: { a: 0 }, unk_id: 0 } },
      "the 'vocab' of a Unigram model is no list",
    ],
    [
      'a decoder that strips nothing, for ever',
      { decoder: { type: 'Strip', content: '', start: 1e15, stop: 0 } },
      "'content' is an empty text",
    ],
    [
      'a suffix that is everywhere',
      { decoder: { type: 'BPEDecoder', suffix: '' } },
      "'suffix' is an empty text",
    ],
    [
      'a mark that is everywhere',
      { decoder: { type: 'Metaspace', replacement: '' } },
      "'replacement' is an empty text",
    ],
    [
      'more ids around a text than a stack holds',
      {
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: 'x' } }, { Sequence: { id: 'A' } }],
          special_tokens: { x: { ids: many(300_000, 0) } },
        },
      },
      'its post_processor sets 300000 ids around a text, the limit is 64',
    ],
    [
      'post-processors without end',
      { post_processor: { type: 'Sequence', processors: many(150_000, { type: 'ByteLevel' }) } },
      'its post_processor has 150000 parts, the limit is 64',
    ],
    [
      'an expression of a decoder that never ends, on the thread of all',
      { decoder: { type: 'Replace', pattern: { Regex: '(a+)+b' }, content: '' } },
      "a decoder's Replace with the expression (a+)+b",
    ],
    [
      'an added token that grows beyond the limit',
      {
        normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(2000) },
        added_tokens: [{ id: 2, content: 'a', normalized: true }],
      },
      'an added token has 2000 characters, the limit is 1024',
    ],
    [
      'a kind that cannot be made a text',
      { normalizer: { type: { toString: 1, valueOf: 1 } } },
      'Unknown Normalizer type: {"toString":1,"valueOf":1}',
    ],
  ])('%s', (_what, parts, message) => {
    expect(() => load(parts)).toThrow(
      expect.objectContaining({
        code: 'CHECKPOINT_INVALID',
        message: expect.stringContaining(`tokenizer.json cannot be used: ${message}`),
      }),
    );
  });

  it('a token of a megabyte', () => {
    expect(() => load({ model: { ...MODEL, vocab: { ...MODEL.vocab, ['x'.repeat(1e6)]: 2 } } })).toThrow(
      'A token of the tokenizer has 1000000 characters, the limit is 4096',
    );
  });

  it('in a message of one line, however long the value', () => {
    expect(() => load({ decoder: { type: 'x'.repeat(1e6) } })).toThrow(/^.{1,200}$/);
  });
});

it('takes what tokenizers in use have', () => {
  const tokenizer = load({
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFKC' }, { type: 'Prepend', prepend: '▁' }, double],
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { Regex: '[▁_]' }, content: ' ' },
        { type: 'Strip', content: 'a', start: 2 ** 53 - 1, stop: 0 },
      ],
    },
  });
  expect(tokenizer.decode([0, 0])).toBe('');
});
