/** A chat template that does not come back, behind the running server: one 400, and all else goes on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { allGone, ServerProcess } from '../support/server-process.js';

const LIMIT_MS = 120_000;
const TEMPLATE =
  "{% if messages[0].content == 'hang' %}{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}{% endif %}" +
  "{% if messages[0].content == 'swell' %}{% for i in range(100000000000) %}{% endfor %}{% endif %}{{ messages[0].content }}";

let server: ServerProcess;
let store: string;
beforeAll(async () => {
  store = mkdtempSync(path.join(tmpdir(), 'chat-template-'));
  server = await ServerProcess.start({ SERVING_SHARD_STORE: store, OPTION_CHAT_TEMPLATE: TEMPLATE });
}, LIMIT_MS);
afterAll(async () => {
  const children = server.childPids();
  await server.stop();
  await allGone(children);
  rmSync(store, { recursive: true });
});

const chat = (content: string): Promise<Response> =>
  server.post('/v1/chat/completions', {
    model: 'embedded',
    messages: [{ role: 'user', content }],
    max_tokens: 4,
    temperature: 0,
  });
const complete = (prompt: string): Promise<Response> =>
  server.post('/v1/completions', { model: 'embedded', prompt, max_tokens: 4, temperature: 0 });

it.each(['hang', 'swell'])(
  'a chat that makes the template %s is refused, others are answered meanwhile',
  async (content) => {
    const order: string[] = [];
    const bad = chat(content).then(async (response) => {
      order.push('chat');
      return { status: response.status, body: await response.json() };
    });
    const [text, ping] = await Promise.all([complete('Once upon a time'), fetch(`${server.url}/ping`)]);
    order.push('completion');
    expect([text.status, ping.status]).toEqual([200, 200]);
    expect(await bad).toMatchObject({ status: 400, body: { error: { code: 'chat_template_limit' } } });
    if (content === 'hang') expect(order).toEqual(['completion', 'chat']);
    const next = await chat('Once upon a time');
    expect(next.status).toBe(200);
    expect(await next.json()).toMatchObject({ choices: [{ message: { role: 'assistant' } }] });
  },
);

it('a template in a request is refused by name, and not looked at', async () => {
  const response = await server.post('/v1/chat/completions', {
    model: 'embedded',
    messages: [{ role: 'user', content: 'Once upon a time' }],
    max_tokens: 1,
    chat_template: '{% for i in range(100000000000) %}{% endfor %}',
  });
  expect(response.status).toBe(400);
  expect(await response.text()).toContain('chat_template is not supported');
});
