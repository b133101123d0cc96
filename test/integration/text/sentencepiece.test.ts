/** server/text: tokenizer.model without tokenizer.json, against Python's sentencepiece on 2,000 lines; damaged ones. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { goldenLines, readSentencePieceGolden, sentencePieceNames } from '../../support/tokenizer-goldens.js';

it('covers both kinds of model', () => {
  expect(sentencePieceNames.length).toBeGreaterThanOrEqual(5);
});

describe.each(sentencePieceNames)('%s', (name) => {
  const golden = readSentencePieceGolden(name);
  const tokenizer = Tokenizer.fromSentencePiece(golden.model, null);

  it('makes the same ids of every line', () => {
    const wrong = goldenLines.flatMap((line, index) => {
      const ids = tokenizer.encode(line, { addSpecialTokens: false });
      const expected = golden.ids[index];
      return ids.join() === expected?.join() ? [] : [{ index, line, ids, expected }];
    });
    expect(wrong).toEqual([]);
  });

  it('makes the same text of the ids, whole and token by token', () => {
    const wrong = golden.ids.flatMap((ids, index) => {
      const expected = golden.decoded[index] ?? goldenLines[index];
      const detokenizer = tokenizer.detokenizer({ skipSpecialTokens: true });
      const streamed = ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
      const text = tokenizer.decode(ids);
      return text === expected && streamed === expected ? [] : [{ index, text, streamed, expected }];
    });
    expect(wrong).toEqual([]);
  });
});

describe('a checkpoint with a tokenizer.model alone', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'shardserve-spm-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const write = (name: string, content: string | Buffer) => writeFileSync(path.join(folder, name), content);
  const { model, ids } = readSentencePieceGolden('bpe-llama');
  const plain = ids[goldenLines.indexOf('a')] as number[];

  it('begins a text by its token, takes special tokens spelled out, and skips them in output', async () => {
    write('tokenizer.model', model);
    write('tokenizer_config.json', JSON.stringify({ add_bos_token: true, add_eos_token: true }));
    const tokenizer = await Tokenizer.load(folder);
    expect(tokenizer.encode('a')).toEqual([1, ...plain, 2]);
    expect(tokenizer.encode('a</s>a', { addSpecialTokens: false })).toEqual([...plain, 2, ...plain]);
    expect(tokenizer.decode([1, ...plain, 2])).toBe('a');
    expect(tokenizer.isSpecial(2)).toBe(true);
  });

  it('sets the dummy prefix at the start of the text alone when legacy is false', async () => {
    write('tokenizer.model', model);
    write('tokenizer_config.json', JSON.stringify({ legacy: false }));
    const tokenizer = await Tokenizer.load(folder);
    const parts = tokenizer.encode('a</s>a', { addSpecialTokens: false });
    expect(parts.slice(0, plain.length + 1)).toEqual([...plain, 2]);
    expect(tokenizer.decode(parts, { skipSpecialTokens: false })).toBe('a</s>a');
  });

  it('takes the tokens of added_tokens_decoder', async () => {
    write('tokenizer.model', model);
    const added = {
      1000: { content: '<|user|>', special: true },
      1001: { content: '<tool>', special: false },
    };
    write('tokenizer_config.json', JSON.stringify({ added_tokens_decoder: added }));
    const tokenizer = await Tokenizer.load(folder);
    expect(tokenizer.vocabSize).toBe(1002);
    expect(tokenizer.encode('<|user|><tool>', { addSpecialTokens: false })).toEqual([1000, 1001]);
    expect(tokenizer.decode([1000, 1001])).toBe('<tool>');
  });

  it.each<[string, Buffer | (() => Buffer)]>([
    ['is empty', Buffer.alloc(0)],
    ['is a text', Buffer.from('{"this is": "no protobuf"}')],
    ['is cut in a piece', () => model.subarray(0, 1001)],
    ['claims a piece of 2 GB', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 0x0a])],
    [
      'has a charsmap that lies',
      () => Buffer.concat([model, Buffer.from([0x1a, 6, 0x12, 4, 255, 255, 255, 255])]),
    ],
    ['is of a kind nobody reads', () => Buffer.concat([model, Buffer.from([0x12, 2, 0x18, 4])])],
    ['has no unknown piece', Buffer.from([0x0a, 3, 0x0a, 1, 0x61])],
  ])('that %s is refused with a sentence', async (_name, content) => {
    write('tokenizer.model', typeof content === 'function' ? content() : content);
    const error = await Tokenizer.load(folder).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ServingError);
    expect((error as ServingError).code).toBe('CHECKPOINT_INVALID');
    expect((error as ServingError).message).toMatch(/tokenizer/);
  });
});
