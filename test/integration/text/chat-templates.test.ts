/** server/text/chat-template.ts against transformers' apply_chat_template: ten styles of templates, six conversations, with tools and without. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ChatTemplate, readChatTemplate, type TemplateMessage } from '../../../server/text/chat-template.js';
import { repositoryRoot } from '../../support/repository-root.js';

interface Case {
  name: string;
  conversation: string;
  tools: boolean;
  addGenerationPrompt: boolean;
  rendered?: string;
  refused?: string;
}
const golden = JSON.parse(
  readFileSync(path.join(repositoryRoot, 'test', 'golden', 'chat-templates', 'cases.json'), 'utf8'),
) as {
  conversations: Record<string, TemplateMessage[]>;
  tools: unknown[];
  configs: Record<string, unknown>;
  cases: Case[];
};

/** @huggingface/jinja's own: `lstrip('\n')` strips every white space, and true, false and none print as JavaScript has them. */
function isKnownDeviation({ name, conversation }: Case): boolean {
  return name === 'features' || (name === 'qwen3' && conversation === 'system-turns');
}

function render(template: ChatTemplate, example: Case): string {
  const messages = golden.conversations[example.conversation] as TemplateMessage[];
  const tools = example.tools ? { tools: golden.tools } : {};
  try {
    return template.render(messages, { addGenerationPrompt: example.addGenerationPrompt, ...tools });
  } catch (error) {
    return `refused: ${(error as Error).message.replace(/^The model's chat template refuses these messages: /, '')}`;
  }
}

describe('a developer', () => {
  const render = (text: string, messages: TemplateMessage[]): string =>
    new ChatTemplate({ text, toolText: null, specialTokens: {} }).render(messages, {
      addGenerationPrompt: false,
    });
  const messages = [
    { role: 'system', content: 'Be kind.' },
    { role: 'user', content: 'Hi' },
    { role: 'developer', content: 'Rhyme.' },
  ];

  it('speaks as the system, first and once, where the template knows no developers', () => {
    const strict =
      "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}[{{ m.role }}: {{ m.content }}]{% endfor %}";
    expect(render(strict, messages)).toBe('[system: Be kind.\n\nRhyme.][user: Hi]');
    expect(render(strict, messages.slice(1, 2))).toBe('[user: Hi]');
  });

  it('stays where the template knows them', () => {
    const knows =
      "{% for m in messages %}[{{ 'D' if m.role == 'developer' else m.role }}: {{ m.content }}]{% endfor %}";
    expect(render(knows, messages)).toBe('[system: Be kind.][user: Hi][D: Rhyme.]');
  });
});

describe.each(Object.keys(golden.configs))('a template in the style of %s', (name) => {
  it('makes the same prompts and refusals, but where the library is known to differ', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-chat-'));
    writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(golden.configs[name]));
    const template = new ChatTemplate(readChatTemplate(folder, null)!);
    rmSync(folder, { recursive: true });
    for (const example of golden.cases.filter((one) => one.name === name)) {
      const expected = example.rendered ?? `refused: ${example.refused}`;
      const rendered = render(template, example);
      if (isKnownDeviation(example)) expect(rendered).not.toBe(expected);
      else expect(rendered, JSON.stringify({ ...example, rendered: undefined })).toBe(expected);
    }
  });
});
