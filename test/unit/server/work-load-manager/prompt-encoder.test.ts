/** Prompt to ids: text, ids, chat. Long text goes to a thread (test/integration/coordinator-prompts.test.ts). */
import { describe, expect, it } from 'vitest';
import { PromptEncoder } from '../../../../server/work-load-manager/prompt-encoder.js';

const tokenizer = {
  encode: (text: string, options?: { addSpecialTokens?: boolean }) => [
    ...(options?.addSpecialTokens ? [1] : []),
    ...[...text].map((letter) => letter.charCodeAt(0)),
  ],
};
const chatTemplate = {
  render: (messages: readonly { content: string }[]) => messages.map((one) => one.content).join('|'),
};
const encoder = new PromptEncoder({ modelFolder: '/none', tokenizer, chatTemplate, vocabSize: 200 });

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

  it('refuses a chat without a template, and says why', async () => {
    const plain = new PromptEncoder({ modelFolder: '/none', tokenizer, chatTemplate: null, vocabSize: 200 });
    await expect(plain.encode({ kind: 'chat', messages: [] })).rejects.toMatchObject({
      code: 'NO_CHAT_TEMPLATE',
      message: expect.stringContaining('chat_template'),
    });
  });
});
