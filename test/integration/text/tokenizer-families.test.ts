/** server/text: the tokenizers of 22 families against Python's tokenizers, on 2,000 lines of every script; ids, text, and of a third of them a run the text token by token. */
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { drawn } from '../../fixtures/seeded-random.js';
import { familyNames, goldenLines, readFamilyGolden } from '../../support/tokenizer-goldens.js';

function streamed(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean): string[] {
  const detokenizer = tokenizer.detokenizer({ skipSpecialTokens });
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

it('covers at least twelve families and 2,000 lines', () => {
  expect(familyNames.length).toBeGreaterThanOrEqual(22);
  expect(goldenLines).toHaveLength(2000);
});

describe.each(familyNames)('%s', (name) => {
  const golden = readFamilyGolden(name);
  const tokenizer = Tokenizer.fromJson(golden.tokenizer);
  const { prefixIds, suffixIds } = golden;
  const framed = golden.ids.map((ids) => [...prefixIds, ...ids, ...suffixIds]);
  const expected = goldenLines.map((line, index) => golden.decoded[index] ?? line);

  // Lines that fail are collected: an expectation a line would take longer than the tokenizer.
  const same = (one: readonly number[], other: readonly number[] | undefined) =>
    other !== undefined && one.length === other.length && one.every((id, at) => id === other[at]);

  it('makes the same ids of every line, with and without special tokens', () => {
    const wrong = goldenLines.flatMap((line, index) => {
      const ids = tokenizer.encode(line, { addSpecialTokens: false });
      const withSpecial = tokenizer.encode(line);
      const isSame = same(ids, golden.ids[index]) && same(withSpecial, framed[index]);
      return isSame ? [] : [{ index, line, ids, expected: golden.ids[index], withSpecial }];
    });
    expect(wrong).toEqual([]);
  });

  it('makes the same text of the ids, without special tokens and with them', () => {
    const wrong = framed.flatMap((ids, index) => {
      const text = tokenizer.decode(ids);
      const withSpecial = tokenizer.decode(ids, { skipSpecialTokens: false });
      const isSame = text === expected[index] && crc32(withSpecial) === golden.decodedCrc[index];
      return isSame ? [] : [{ index, text, expected: expected[index], withSpecial }];
    });
    expect(wrong).toEqual([]);
  });

  it('gives the same text token by token, and no part of a character', () => {
    const wrong = drawn([...framed.entries()], 3).flatMap(([index, ids]) =>
      [true, false].flatMap((skipSpecialTokens) => {
        const pieces = streamed(tokenizer, ids, skipSpecialTokens);
        const whole = tokenizer.decode(ids, { skipSpecialTokens });
        const isCut =
          !whole.includes('\ufffd') && pieces.some((piece) => /[\p{Surrogate}\ufffd]/u.test(piece));
        return pieces.join('') === whole && !isCut ? [] : [{ index, pieces, whole }];
      }),
    );
    expect(wrong).toEqual([]);
  });
});
