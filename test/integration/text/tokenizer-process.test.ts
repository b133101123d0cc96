/** A tokenizer in its process: what hostile files and texts can do to it, and to nobody else. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { type TokenizerLimits, TokenizerProcess } from '../../../server/engines/llm/tokenizer-process.js';
import { Detokenizer } from '../../../server/text/detokenizer.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { repositoryRoot } from '../../support/repository-root.js';

const LIMITS: TokenizerLimits = { loadMs: 2000, encodeMs: 400, encodeMsPerKilocharacter: 1, memoryMb: 128 };
const EMBEDDED = path.join(repositoryRoot, 'models', 'embedded');
const scratch = mkdtempSync(path.join(tmpdir(), 'tokenizer-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const started: TokenizerProcess[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((tokenizer) => tokenizer.close()));
});
async function start(folder: string, limits?: TokenizerLimits): Promise<TokenizerProcess> {
  const tokenizer = await TokenizerProcess.start(folder, limits);
  started.push(tokenizer);
  return tokenizer;
}

/** This process's. */
const childPids = (): string[] =>
  readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );

/** Folder of a checkpoint whose tokenizer has these parts. */
function checkpoint(name: string, parts: Record<string, unknown>): string {
  const folder = path.join(scratch, name);
  mkdirSync(folder);
  const model = { type: 'WordLevel', vocab: { a: 0, '<unk>': 1 }, unk_token: '<unk>' };
  writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify({ model, ...parts }));
  return folder;
}

/** 2^40 ways to take forty letters, none of which ends in a b. */
const LETTERS = 'a'.repeat(40);
const replace = { type: 'Replace', pattern: { Regex: '(a+)+b' }, content: 'x' };
const split = { type: 'Split', pattern: { Regex: '(a+)+b' }, behavior: 'Isolated' };

describe('files beside the tokenizer', () => {
  it('are read in its process, and told to the server', async () => {
    const folder = checkpoint('beside', {});
    const config = { chat_template: '{{ messages }}', bos_token: '<s>', eos_token: { content: 'a' } };
    writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(config));
    writeFileSync(path.join(folder, 'generation_config.json'), '{"num_beams": 4, "top_h": null}');
    expect((await start(folder)).facts).toMatchObject({
      template: {
        text: '{{ messages }}',
        toolText: null,
        specialTokens: { bos_token: '<s>', eos_token: 'a' },
      },
      ...{ endToken: 'a', unservedKeys: ['num_beams'] },
    });
    const own = await TokenizerProcess.start(folder, LIMITS, '{{ own }}');
    started.push(own);
    expect(own.facts.template).toMatchObject({ text: '{{ own }}', specialTokens: { bos_token: '<s>' } });
    expect((await start(checkpoint('alone', {}))).facts).toMatchObject({
      template: null,
      endToken: null,
      unservedKeys: [],
    });
  });

  it.each([
    ['in millions of pieces', () => `{"a":[${'[],'.repeat(6_000_000)}[]]}`, /it may use 128 MB of memory/],
    [
      'with a template of millions of characters',
      () => JSON.stringify({ chat_template: 'x'.repeat(5_000_000) }),
      /chat template .* 5\d{6} characters/,
    ],
  ])('%s cost their own process alone', async (name, text, words) => {
    const folder = checkpoint(name, {});
    writeFileSync(path.join(folder, 'tokenizer_config.json'), text());
    await expect(start(folder, { ...LIMITS, loadMs: 20_000 })).rejects.toMatchObject({
      ...{ code: 'CHECKPOINT_INVALID', message: expect.stringMatching(words) },
    });
  });
});

describe('a hostile tokenizer.json', () => {
  it.each([
    ['normalizer', { normalizer: replace }],
    ['pre-tokenizer', { pre_tokenizer: split }],
  ])('whose %s never ends costs its own text one clear error', async (name, parts) => {
    const [bad, good] = await Promise.all([start(checkpoint(name, parts), LIMITS), start(EMBEDDED)]);
    const order: string[] = [];
    const hanging = bad.encode(LETTERS, true).catch((error: unknown) => {
      order.push('stopped');
      return error;
    });
    const behind = bad.encode('a', true).then((ids) => order.push(`behind ${ids}`));
    await good.encode('another model', true).then(() => order.push('other'));
    expect(await hanging).toMatchObject({
      code: 'TOKENIZER_LIMIT',
      message: "The model's tokenizer was not done with this text of 40 characters after 401 ms, its limit",
    });
    await behind;
    expect(order).toEqual(['other', 'stopped', 'behind 0']);
  });

  it('whose added token never ends is refused', async () => {
    const added_tokens = [{ id: 2, content: LETTERS, normalized: true }];
    const folder = checkpoint('added', { normalizer: replace, added_tokens });
    await expect(start(folder, LIMITS)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: 'The tokenizer of the checkpoint was not loaded after 2000 ms, its limit',
    });
  });

  it('that fills the memory is refused', async () => {
    const vocab = Object.fromEntries(Array.from({ length: 600_000 }, (_, id) => [`token ${id}`, id]));
    const folder = checkpoint('large', { model: { type: 'WordLevel', vocab } });
    await expect(start(folder, { ...LIMITS, loadMs: 60_000, memoryMb: 32 })).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/ended \(SIG.*\).* it may use 32 MB of memory/),
    });
  });
});

it('a text that fills the memory of the process costs its own request, and the next is tokenised', async () => {
  const folder = checkpoint('words', { pre_tokenizer: { type: 'WhitespaceSplit' } });
  const tokenizer = await start(folder, { ...LIMITS, encodeMs: 60_000, memoryMb: 48 });
  await expect(tokenizer.encode('a '.repeat(3_000_000), true)).rejects.toMatchObject({
    code: 'TOKENIZER_LIMIT',
    message: expect.stringContaining('it may use 48 MB of memory'),
  });
  expect(await tokenizer.encode('a '.repeat(5000), true)).toEqual(new Array(5000).fill(0));
});

it('a text whose client leaves while it is tokenised holds nobody up until its limit', async () => {
  const tokenizer = await start(checkpoint('left', { normalizer: replace }), { ...LIMITS, encodeMs: 60_000 });
  const client = new AbortController();
  const left = tokenizer.encode(LETTERS, true, client.signal);
  const behind = tokenizer.encode('a', true);
  client.abort();
  await expect(left).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(await behind).toEqual([0]);
});

it('a process that somebody else kills has its text tokenised by the next one', async () => {
  const before = childPids();
  const tokenizer = await start(checkpoint('killed', { normalizer: replace }), LIMITS);
  const [pid] = childPids().filter((one) => !before.includes(one));
  const hostile = tokenizer.encode(LETTERS, true);
  const behind = tokenizer.encode('a', true);
  process.kill(Number(pid), 'SIGKILL');
  // Its own fault, not that of whoever killed it.
  await expect(hostile).rejects.toMatchObject({
    message: expect.stringContaining('after 401 ms, its limit'),
  });
  expect(await behind).toEqual([0]);
});

it('a text whose client left while it waited is not tokenised', async () => {
  const tokenizer = await start(EMBEDDED);
  const client = new AbortController();
  const first = tokenizer.encode('a first one', true);
  const second = tokenizer.encode('a second one', true, client.signal);
  client.abort();
  await expect(second).rejects.toMatchObject({ code: 'CANCELLED' });
  await first;
});

it('gives the ids and the texts that it gives in this process', async () => {
  const [tokenizer, own] = [await start(EMBEDDED), Tokenizer.read(EMBEDDED)];
  const texts = new Detokenizer(tokenizer.facts.table);
  for (const text of ['', 'Once upon a time\n', ' é 日本 \ud800 <s></s>', 'a king '.repeat(2000)]) {
    const ids = await tokenizer.encode(text, true);
    expect(ids).toEqual(own.encode(text));
    expect(texts.decode(ids)).toBe(own.decode(ids));
  }
  expect(texts.vocabSize).toBe(own.vocabSize);
});
