/** Prompt to ids: text, ids, chat. Long text goes to a thread (test/integration/prepare-model.test.ts). */
import { describe, expect, it } from 'vitest';
import { PromptEncoder } from '../../../../../server/engines/llm/prompt-encoder.js';

const tokenizer = {
  encode: (text: string, options?: { addSpecialTokens?: boolean }) => [
    ...(options?.addSpecialTokens ? [1] : []),
    ...[...text].map((letter) => letter.charCodeAt(0)),
  ],
};
const chatRenderer = {
  render: async (messages: readonly { content: string }[]) => messages.map((one) => one.content).join('|'),
  close: async () => {},
};
const encoder = new PromptEncoder({ modelFolder: '/none', tokenizer, chatRenderer, vocabSize: 200 });

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
    const plain = new PromptEncoder({ modelFolder: '/none', tokenizer, chatRenderer: null, vocabSize: 200 });
    await expect(plain.encode({ kind: 'chat', messages: [] })).rejects.toMatchObject({
      code: 'NO_CHAT_TEMPLATE',
      message: expect.stringContaining('chat_template'),
    });
  });
});

describe('a text to embed', () => {
  /** Begin 1, end 2, as encoders have them. */
  const framed = {
    encode: (text: string, options?: { addSpecialTokens?: boolean }) => {
      const letters = [...text].map((letter) => letter.charCodeAt(0));
      return options?.addSpecialTokens ? [1, ...letters, 2] : letters;
    },
  };
  const textEncoder = (embedding = { lowerCase: false, prefix: '' }) =>
    new PromptEncoder({
      modelFolder: '/none',
      tokenizer: framed,
      chatRenderer: null,
      vocabSize: 200,
      embedding,
    });

  it('loses its end but not the tokens that stand behind it', async () => {
    const encode = (cutAt: number | null) => textEncoder().encode({ kind: 'text', text: 'abcd' }, cutAt);
    expect(await encode(null)).toEqual([1, 97, 98, 99, 100, 2]);
    expect(await encode(6)).toEqual([1, 97, 98, 99, 100, 2]);
    expect(await encode(4)).toEqual([1, 97, 98, 2]);
    expect(await encode(1)).toEqual([2]);
  });

  it('of ids loses its end as it is', async () => {
    expect(await textEncoder().encode({ kind: 'ids', ids: [5, 6, 7] }, 2)).toEqual([5, 6]);
  });

  it('gets the model’s prefix, and lower case', async () => {
    const encoder = textEncoder({ lowerCase: true, prefix: 'Q' });
    expect(await encoder.encode({ kind: 'text', text: 'AB' })).toEqual([1, 113, 97, 98, 2]);
  });
});
