/** server/text against files on disk: damaged tokenizers, and every place a chat template may stand. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { ChatTemplate, readChatTemplate } from '../../../server/text/chat-template.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { sentencePieceJson } from '../../unit/server/text/toy-tokenizers.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'shardserve-text-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (name: string, content: unknown) =>
  writeFileSync(path.join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));

describe('a damaged tokenizer', () => {
  const json = sentencePieceJson;
  const model = (fields: object) => ({ ...json(), model: { ...(json().model as object), ...fields } });

  it.each<[string, unknown, RegExp]>([
    ['is missing', null, /^No tokenizer\.json and no tokenizer\.model in /],
    ['is cut', '{"version": "1.0", "added_to', /^tokenizer\.json is not JSON: /],
    ['is a list', '[]', /^tokenizer\.json is not a JSON object$/],
    ['has no model', { added_tokens: [] }, /'model'/],
    ['has no vocabulary', model({ vocab: 3 }), /'vocab'/],
    [
      'has an id that is no array index',
      model({ vocab: { a: -1 } }),
      /token "a" has the id -1, must be 0 … 4194303/,
    ],
    ['has an id beyond the limit', model({ vocab: { a: 2 ** 40 } }), /has the id 1099511627776/],
    [
      'has an added token without an id',
      { ...json(), added_tokens: [{ content: 'x' }] },
      /token "x" has the id undefined/,
    ],
    ['has an added token without content', { ...json(), added_tokens: [{ id: 1 }] }, /'added_tokens'/],
    ['has added tokens that are no list', { ...json(), added_tokens: 1 }, /'added_tokens'/],
    [
      'is of a kind nobody knows',
      { ...json(), decoder: { type: 'Telepathy' } },
      /Unknown Decoder type: Telepathy/,
    ],
  ])('that %s is refused with a sentence', async (_name, content, message) => {
    if (content !== null) write('tokenizer.json', content);
    const error = await Tokenizer.load(folder).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ServingError);
    expect((error as ServingError).code).toBe('CHECKPOINT_INVALID');
    expect((error as ServingError).message).toMatch(message);
  });

  it('that is a folder is refused', async () => {
    const error = await Tokenizer.load(path.join(folder, 'x\0y')).catch((thrown: unknown) => thrown);
    expect((error as ServingError).code).toBe('CHECKPOINT_INVALID');
  });

  it('is not needed for one that is whole', async () => {
    write('tokenizer.json', json());
    const tokenizer = await Tokenizer.load(folder);
    expect(tokenizer.decode(tokenizer.encode('日x the cat'))).toBe('日x the cat');
  });
});

describe('a chat template', () => {
  const messages = [
    { role: 'system', content: 'Be kind.' },
    { role: 'user', content: 'Hi <there> & "you"' },
  ];
  const simple =
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
  const rendered = '<s>[system] Be kind.\n[user] Hi <there> & "you"\n[assistant]';
  const options = { addGenerationPrompt: true };
  const load = (override: string | null = null): ChatTemplate | null => {
    const source = readChatTemplate(folder, override);
    return source && new ChatTemplate(source);
  };

  it('is null when the checkpoint has none', () => {
    expect(load()).toBeNull();
    write('tokenizer_config.json', { bos_token: '<s>' });
    expect(load()).toBeNull();
    write('tokenizer_config.json', { chat_template: [{ name: 'rag', template: 'x' }] });
    expect(load()).toBeNull();
  });

  it('comes from tokenizer_config.json, with special tokens as texts or objects, and escapes nothing', () => {
    write('tokenizer_config.json', { bos_token: '<s>', chat_template: simple });
    expect(load()!.render(messages, options)).toBe(rendered);
    write('tokenizer_config.json', { bos_token: { content: '<s>' }, chat_template: simple });
    expect(load()!.render(messages, { addGenerationPrompt: false })).toBe(
      rendered.replace('[assistant]', ''),
    );
  });

  it('comes from a list of named ones, with its own for tools', () => {
    write('tokenizer_config.json', {
      bos_token: '<s>',
      chat_template: [
        { name: 'default', template: simple },
        { name: 'tool_use', template: '{{ tools | length }} tools' },
      ],
    });
    const template = load()!;
    expect(template.render(messages, options)).toBe(rendered);
    expect(template.render(messages, { ...options, tools: [] })).toBe(rendered);
    expect(template.render(messages, { ...options, tools: [{}, {}] })).toBe('2 tools');
  });

  it('comes from chat_template.jinja before the configuration, and from the override before both', () => {
    write('tokenizer_config.json', { bos_token: '<s>', chat_template: 'old' });
    write('chat_template.jinja', simple);
    expect(load()!.render(messages, options)).toBe(rendered);
    expect(load('mine {{ eos_token }}.')!.render(messages, options)).toBe('mine .');
  });

  it('that does not parse, or is no text, is a damaged checkpoint', () => {
    for (const template of ['{% if %}', 7, [{ name: 'default' }]]) {
      write('tokenizer_config.json', { chat_template: template });
      expect(() => load(), String(template)).toThrowError(
        expect.objectContaining({ code: 'CHECKPOINT_INVALID' }) as Error,
      );
    }
  });

  it('refuses messages in its own words', () => {
    const template = load("{{ raise_exception('Conversation roles must alternate') }}")!;
    expect(() => template.render(messages, options)).toThrowError(
      expect.objectContaining({
        code: 'BAD_REQUEST',
        message: expect.stringContaining('Conversation roles must alternate') as string,
      }) as Error,
    );
  });

  it('that outgrows JavaScript is stopped by its own error, and a long refusal is cut', () => {
    const limit = expect.objectContaining({ code: 'CHAT_TEMPLATE_LIMIT' }) as Error;
    const deep = load(
      '{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}',
    )!;
    expect(() => deep.render(messages, options)).toThrowError();
    const doubling = load(
      "{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    )!;
    expect(() => doubling.render(messages, options)).toThrowError(limit);
    const loud = load(
      "{% set ns = namespace(x='ab') %}{% for i in range(16) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ raise_exception(ns.x) }}",
    )!;
    try {
      loud.render(messages, options);
      expect.fail('it rendered');
    } catch (error) {
      expect(error).toMatchObject({ code: 'BAD_REQUEST' });
      expect((error as Error).message.length).toBeLessThan(1200);
    }
  });
});
