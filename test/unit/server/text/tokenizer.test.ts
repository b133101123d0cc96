/** server/text/tokenizer.ts and incremental-detokenizer.ts: ids as the reference makes them, text piece by piece. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { WindowDetokenizer } from '../../../../server/text/incremental-detokenizer.js';
import { Tokenizer } from '../../../../server/text/tokenizer.js';
import { repositoryRoot, seededRandom } from './fixtures.js';
import { metaspaceJson, sentencePieceJson } from './toy-tokenizers.js';

interface GoldenCases {
  encodeCases: {
    text: string;
    ids: number[];
    idsWithoutSpecial: number[];
    decoded: string;
    decodedWithSpecial: string;
  }[];
  decodeCases: { ids: number[]; decoded: string; decodedWithSpecial: string }[];
}

const root = repositoryRoot();
const golden = JSON.parse(
  readFileSync(path.join(root, 'test', 'golden', 'tokenizer', 'cases.json'), 'utf8'),
) as GoldenCases;

function pieces(
  tokenizer: Tokenizer,
  ids: readonly number[],
  skipSpecialTokens: boolean,
  context: number[] = [],
) {
  const detokenizer = tokenizer.detokenizer({ skipSpecialTokens, context });
  const parts = ids.map((id) => detokenizer.push(id));
  return [...parts, detokenizer.flush()];
}

describe('the embedded tokenizer against the reference implementation', () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(path.join(root, 'models', 'embedded'));
  });

  it('encodes every golden text to the same ids, with and without special tokens', () => {
    expect(golden.encodeCases.length).toBeGreaterThan(100);
    for (const { text, ids, idsWithoutSpecial } of golden.encodeCases) {
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: false }), text).toEqual(idsWithoutSpecial);
    }
  });

  it('decodes every golden id list to the same text, whole and piece by piece', () => {
    for (const { ids, decoded, decodedWithSpecial } of [...golden.encodeCases, ...golden.decodeCases]) {
      expect(tokenizer.decode(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decodedWithSpecial);
      expect(pieces(tokenizer, ids, true).join('')).toBe(decoded);
      expect(pieces(tokenizer, ids, false).join('')).toBe(decodedWithSpecial);
    }
  });

  it('knows its size, its special tokens, and the text of one token with its space', () => {
    expect(tokenizer.vocabSize).toBe(4096);
    expect(tokenizer.isSpecial(0)).toBe(true);
    expect(tokenizer.isSpecial(300)).toBe(false);
    expect(tokenizer.tokenText(0)).toBe('<|endoftext|>');
    const [id] = tokenizer.encode(' the', { addSpecialTokens: false });
    expect(tokenizer.tokenText(id!)).toBe(' the');
  });

  it('takes an id outside the vocabulary for no text: logits may be wider than the tokenizer', () => {
    expect(tokenizer.decode([5000, 98, 4096])).toBe('a');
    expect(tokenizer.tokenText(4096)).toBe('');
    expect(pieces(tokenizer, [5000, 98, 4096], true)).toEqual(['', 'a', '', '']);
  });

  it('holds a character back until its last byte is there', () => {
    const ids = tokenizer.encode('a日😀b', { addSpecialTokens: false });
    const parts = pieces(tokenizer, ids, true);
    expect(parts.filter((part) => part !== '')).toEqual(['a', '日', '😀', 'b']);
  });

  it('gives a cut character out at the end as one replacement character', () => {
    const ids = tokenizer.encode('😀', { addSpecialTokens: false }).slice(0, -1);
    const parts = pieces(tokenizer, ids, true);
    expect(parts.slice(0, -1).join('')).toBe('');
    expect(parts.at(-1)).toBe('\ufffd');
  });

  it('lets bytes that can no longer become a character out before the end', () => {
    // 0x80 alone can only be invalid: it is out as soon as a next token shows so.
    const invalid = tokenizer.encode('À', { addSpecialTokens: false }).at(-1)!;
    const detokenizer = tokenizer.detokenizer({ skipSpecialTokens: true });
    expect(detokenizer.push(invalid)).toBe('');
    expect(detokenizer.push(98)).toBe('\ufffda');
  });
});

describe.each([
  ['byte-level', null],
  ['SentencePiece with byte fallback', sentencePieceJson],
  ['Metaspace', metaspaceJson],
])('incremental decoding, %s', (_name, makeJson) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer =
      makeJson === null
        ? await Tokenizer.load(path.join(root, 'models', 'embedded'))
        : Tokenizer.fromJson(makeJson());
  });

  it.each([1, 2, 3])('gives in pieces what one decode gives, over random ids (seed %i)', (seed) => {
    const random = seededRandom(seed);
    for (let round = 0; round < 150; round += 1) {
      // Half of the rounds draw mostly bytes, so that cut and invalid characters are frequent.
      const limit = round % 2 === 0 ? Math.min(258, tokenizer.vocabSize) : tokenizer.vocabSize + 3;
      const ids = Array.from({ length: 1 + Math.floor(random() * 60) }, () => Math.floor(random() * limit));
      const skip = random() < 0.5;
      expect(pieces(tokenizer, ids, skip).join(''), `seed ${seed}, ids ${ids.join(' ')}`).toBe(
        tokenizer.decode(ids, { skipSpecialTokens: skip }),
      );
    }
  });

  it('never sends half of a character of a valid text, wherever the prompt ends', () => {
    const text = 'the cats at 日本 😀😀 é ö ab';
    const ids = tokenizer.encode(text, { addSpecialTokens: false });
    const whole = tokenizer.decode(ids);
    for (let cut = 0; cut <= ids.length; cut += 1) {
      const context = ids.slice(0, cut);
      // A prompt is text, so it ends at a character's border.
      if (tokenizer.decode(context).endsWith('\ufffd')) continue;
      const parts = pieces(tokenizer, ids.slice(cut), true, context);
      expect(tokenizer.decode(context) + parts.join('')).toBe(whole);
      for (const part of parts) expect(part).not.toMatch(/[\ud800-\udfff\ufffd]/u);
    }
  });

  it('costs the same for the last token of a long text as for the first', () => {
    const seen: number[] = [];
    const decode = (ids: readonly number[]): string => {
      seen.push(ids.length);
      return tokenizer.decode(ids);
    };
    const detokenizer = new WindowDetokenizer(decode, () => true, []);
    for (let index = 0; index < 2000; index += 1) detokenizer.push(2 + (index % 9));
    expect(Math.max(...seen)).toBeLessThanOrEqual(12);
    expect(seen.length).toBeLessThan(2600);
  });
});

describe('spaces of SentencePiece', () => {
  const tokenizer = Tokenizer.fromJson(sentencePieceJson());
  const id = (token: string) =>
    Array.from({ length: 300 }, (_, at) => at).find((at) => tokenizer.tokenText(at) === token)!;

  it('drops the first space of a text but keeps it after a prompt', () => {
    const ids = [id(' the'), id(' cat'), id('s')];
    expect(pieces(tokenizer, ids, true).join('')).toBe('the cats');
    expect(pieces(tokenizer, ids, true, [id('ab')]).join('')).toBe(' the cats');
  });

  it('takes a prompt of special tokens alone for the start of a text', () => {
    expect(pieces(tokenizer, [id(' the')], true, [0]).join('')).toBe('the');
  });
});
