/** Chats rendered by a process of their own: what hostile templates can do to it, and to nobody else. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { type ChatLimits, ChatRenderer } from '../../../server/engines/llm/chat-renderer.js';

const LIMITS: ChatLimits = { renderMs: 400, memoryMb: 48, characters: 100_000 };
const options = { addGenerationPrompt: true };
const say = (content: string) => [{ role: 'user', content }];

const DOUBLE = (times: number, first: string) =>
  `{% set ns = namespace(x=${first}) %}{% for i in range(${times}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`;
/** What the first message says → what happens; anything else is repeated. */
const ATTACKS = {
  loop: '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}',
  range: '{% for i in range(10000000000) %}{% endfor %}',
  list: `${DOUBLE(40, '[1, 2]')}{{ ns.x | length }}`,
  pieces: `${DOUBLE(23, "'a,b,'")}{{ ns.x.split(',') | length }}`,
  text: `${DOUBLE(40, "'abcd'")}{{ ns.x }}`,
  output: `${DOUBLE(18, "'abcd'")}{{ ns.x }}`,
};
const HOSTILE = `{% set c = messages[0].content %}${Object.entries(ATTACKS)
  .map(([name, jinja]) => `{% if c == '${name}' %}${jinja}{% endif %}`)
  .join('')}[{{ c }}]`;

/** This process's. */
const childPids = (): string[] =>
  readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );

const started: ChatRenderer[] = [];
async function start(text = HOSTILE, limits = LIMITS): Promise<ChatRenderer> {
  const renderer = await ChatRenderer.start(
    { text, toolText: null, specialTokens: { eos_token: '</s>' } },
    limits,
  );
  started.push(renderer);
  return renderer;
}
afterEach(async () => {
  await Promise.all(started.splice(0).map((renderer) => renderer.close()));
});

describe('a hostile template', () => {
  it.each([
    ['loop', /was not done with these messages after 400 ms/],
    ['range', /ended \(SIG.*\) over these messages: it may use 48 MB of memory/],
    ['list', /ended \(SIG.*\) over these messages: it may use 48 MB of memory/],
    ['pieces', /ended \(SIG.*\) over these messages: it may use 48 MB of memory/],
    ['text', /grows too far with these messages: Invalid string length/],
    ['output', /makes a text of 1048584 characters of these messages, the limit is 100000/],
  ])(
    'that attacks by %s costs its own chat one clear error, and the next is rendered',
    async (attack, message) => {
      const renderer = await start(HOSTILE, attack === 'loop' ? LIMITS : { ...LIMITS, renderMs: 30_000 });
      await expect(renderer.render(say(attack), options)).rejects.toMatchObject({
        code: 'CHAT_TEMPLATE_LIMIT',
        message: expect.stringMatching(message),
      });
      expect(await renderer.render(say('hello'), options)).toBe('[hello]');
    },
  );

  it('holds up neither this process nor another model, and those behind it in line get their own answers', async () => {
    const [bad, good] = await Promise.all([start(), start('{{ messages[0].content }}!')]);
    const order: string[] = [];
    const note = (name: string) => (text: string) => order.push(`${name} ${text}`);
    const hanging = bad.render(say('loop'), options).catch(() => order.push('loop stopped'));
    const behind = Promise.all(
      ['a', 'b', 'c'].map((name) => bad.render(say(name), options).then(note('behind'))),
    );
    for (const name of ['x', 'y']) await good.render(say(name), options).then(note('other'));
    await Promise.all([hanging, behind]);
    expect(order).toEqual(['other x!', 'other y!', 'loop stopped', 'behind [a]', 'behind [b]', 'behind [c]']);
  });

  it('is stopped when the model is closed, and so are those in line', async () => {
    const renderer = await start(HOSTILE, { ...LIMITS, renderMs: 600_000 });
    const all = ['loop', 'a'].map((name) => renderer.render(say(name), options));
    const ended = Promise.allSettled(all);
    await renderer.close();
    for (const result of await ended) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'SHUTTING_DOWN' } });
    }
    await expect(renderer.render(say('a'), options)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});

describe('a chat template in its process', () => {
  it('sees messages, tools and special tokens as they are', async () => {
    const renderer = await start(
      '{{ messages | tojson }}\n{{ tools | tojson }}\n{{ eos_token }}{{ add_generation_prompt | tojson }}',
    );
    const content = 'lone \ud800, null \u0000, 模型 🤗, "quotes" \\ \u2028';
    const tools = [{ name: 'f', parameters: { n: 1.5, deep: [null, true] } }];
    const text = await renderer.render(say(content), { addGenerationPrompt: false, tools });
    const [seenMessages, seenTools, rest] = text.split('\n');
    expect(JSON.parse(seenMessages!)).toEqual(say(content));
    expect(JSON.parse(seenTools!)).toEqual(tools);
    expect(rest).toBe('</s>false');
  });

  it('runs where no token or key of the server is', async () => {
    process.env.HF_TOKEN = 'hf_secret';
    try {
      const before = childPids();
      await start();
      const [child] = childPids().filter((pid) => !before.includes(pid));
      const names = readFileSync(`/proc/${child}/environ`, 'utf8')
        .split('\0')
        .map((line) => line.split('=')[0]);
      // What ties it to its parent is no secret.
      const channel = ['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE', 'SHARDSERVE_PARENT_PID'];
      expect(names).toContain(channel[0]);
      expect(names.filter((name) => ![...channel, 'NODE_V8_COVERAGE', ''].includes(name!))).toEqual([]);
    } finally {
      delete process.env.HF_TOKEN;
    }
  });

  it('that does not parse is a damaged checkpoint', async () => {
    await expect(start('{% if %}')).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/^The chat template is not valid Jinja: /),
    });
  });

  it('refuses messages in its own words, and goes on', async () => {
    const renderer = await start(
      "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}ok",
    );
    await expect(renderer.render(say('no'), options)).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: "The model's chat template refuses these messages: not this",
    });
    expect(await renderer.render(say('yes'), options)).toBe('ok');
  });

  it('does not keep a program alive that has nothing else to do, nor outlives it', () => {
    const module = new URL('../../../server/engines/llm/chat-renderer.js', import.meta.url).href;
    const program = `
      const { ChatRenderer } = await import(${JSON.stringify(module)});
      const renderer = await ChatRenderer.start({ text: 'hi', toolText: null, specialTokens: {} });
      console.log(await renderer.render([], { addGenerationPrompt: true }));`;
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })).toBe(
      'hi\n',
    );
  });
});
