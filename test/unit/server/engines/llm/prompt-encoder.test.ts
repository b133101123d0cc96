/** Prompt to ids: text, ids, chat; what is refused before any work (the work itself: test/integration/text/tokenizer-process.test.ts). */
import { describe, expect, it } from 'vitest';
import { PromptEncoder } from '../../../../../server/engines/llm/prompt-encoder.js';

/** A letter a token, begin 1, at will end 2. */
const letters = (trailing: number[] = []) => {
  const asked: string[] = [];
  return {
    asked,
    facts: { trailing: trailing.length, longestUnits: 1 },
    encode: async (text: string, addSpecialTokens: boolean) => {
      asked.push(text);
      const ids = [...text].map((letter) => letter.charCodeAt(0));
      return addSpecialTokens ? [1, ...ids, ...trailing] : ids;
    },
    close: async () => {},
  };
};
const tokenizer = letters();
const chatRenderer = {
  render: async (messages: readonly { content: string }[]) => messages.map((one) => one.content).join('|'),
  close: async () => {},
};
const encoder = new PromptEncoder({ tokenizer, chatRenderer, vocabSize: 200 });

describe('the prompt encoder', () => {
  it('adds special tokens to text', async () => {
    expect(await encoder.encode({ kind: 'text', text: 'ab' })).toEqual([1, 97, 98]);
  });

  it('adds none to a chat, whose template spells them out', async () => {
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'user', content: 'b' },
    ];
    expect(await encoder.encode({ kind: 'chat', messages })).toEqual([97, 124, 98]);
  });

  it('keeps the end of a prompt where so many tokens are asked for', async () => {
    const text = { kind: 'text' as const, text: 'abcd' };
    expect(await encoder.encode(text, { keepLast: 3 })).toEqual([98, 99, 100]);
    expect(await encoder.encode(text, { keepLast: 9 })).toEqual([1, 97, 98, 99, 100]);
    expect(await encoder.encode({ kind: 'ids', ids: [5, 6, 7] }, { keepLast: 1 })).toEqual([7]);
    const messages = [{ role: 'user', content: 'abc' }];
    expect(await encoder.encode({ kind: 'chat', messages }, { keepLast: 2 })).toEqual([98, 99]);
    // However long it is: what is left of it fits.
    const long = { kind: 'text' as const, text: 'a'.repeat(200_000) };
    expect(await encoder.encode(long, { keepLast: 2, room: 4 })).toEqual([97, 97]);
  });

  it('passes ids on, and refuses one that is not in the vocabulary', async () => {
    expect(await encoder.encode({ kind: 'ids', ids: [0, 199] })).toEqual([0, 199]);
    await expect(encoder.encode({ kind: 'ids', ids: [200] })).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: expect.stringContaining('0 … 199'),
    });
    await expect(encoder.encode({ kind: 'ids', ids: [1.5] })).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  });

  it('refuses a text with a token that the model has no row for', async () => {
    const text = String.fromCharCode(200);
    await expect(encoder.encode({ kind: 'text', text })).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: 'prompt: token id 200 is not within 0 … 199',
    });
  });

  it('refuses a chat without a template, and says why', async () => {
    const plain = new PromptEncoder({ tokenizer, chatRenderer: null, vocabSize: 200 });
    await expect(plain.encode({ kind: 'chat', messages: [] })).rejects.toMatchObject({
      code: 'NO_CHAT_TEMPLATE',
      message: expect.stringContaining('chat_template'),
    });
  });
});

describe('a prompt that can never fit', () => {
  const room = 10_000;
  const long = 'a'.repeat(room * 16 + 1);
  const refused = {
    code: 'PROMPT_TOO_LONG',
    message: `This model's maximum context length is 10000 tokens, of at most 16 characters each, but the prompt has 160001 characters: shorten it to less than 160000`,
  };

  it('is refused before it is tokenised', async () => {
    const own = letters();
    const encoder = new PromptEncoder({ tokenizer: own, chatRenderer, vocabSize: 200 });
    await expect(encoder.encode({ kind: 'text', text: long }, { room })).rejects.toMatchObject(refused);
    expect(own.asked).toEqual([]);
    expect(await encoder.encode({ kind: 'text', text: long.slice(1) }, { room })).toHaveLength(160_001);
  });

  it('is refused before its template sees it', async () => {
    const render = async (): Promise<string> => {
      throw new Error('rendered');
    };
    const own = { render, close: async () => {} };
    const encoder = new PromptEncoder({ tokenizer: letters(), chatRenderer: own, vocabSize: 200 });
    const messages = [{ role: 'user', content: long }];
    await expect(encoder.encode({ kind: 'chat', messages }, { room })).rejects.toMatchObject(refused);
  });
});

it('a prompt of several choices is tokenised once', async () => {
  const own = letters();
  const encoder = new PromptEncoder({ tokenizer: own, chatRenderer, vocabSize: 200 });
  const prompt = { kind: 'text', text: 'ab' } as const;
  const all = await Promise.all(Array.from({ length: 60 }, () => encoder.encode(prompt)));
  expect(all).toEqual(Array.from({ length: 60 }, () => [1, 97, 98]));
  expect(own.asked).toEqual(['ab']);
});

describe('a text to embed', () => {
  const textEncoder = (embedding = { lowerCase: false, prefix: '' }) =>
    new PromptEncoder({
      tokenizer: letters([2]),
      chatRenderer: null,
      vocabSize: 200,
      embedding,
    });

  it('loses its end but not the tokens that stand behind it', async () => {
    const encode = (cutAt: number | null) => textEncoder().encode({ kind: 'text', text: 'abcd' }, { cutAt });
    expect(await encode(null)).toEqual([1, 97, 98, 99, 100, 2]);
    expect(await encode(6)).toEqual([1, 97, 98, 99, 100, 2]);
    expect(await encode(4)).toEqual([1, 97, 98, 2]);
    expect(await encode(1)).toEqual([2]);
  });

  it('of ids loses its end as it is', async () => {
    expect(await textEncoder().encode({ kind: 'ids', ids: [5, 6, 7] }, { cutAt: 2 })).toEqual([5, 6]);
  });

  it('gets the model’s prefix, and lower case', async () => {
    const encoder = textEncoder({ lowerCase: true, prefix: 'Q' });
    expect(await encoder.encode({ kind: 'text', text: 'AB' })).toEqual([1, 113, 97, 98, 2]);
  });
});
