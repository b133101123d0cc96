/** Two questions to a process at a time: the order of their answers, each one's deadline, and whose the death is. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { ChildLink } from '../../../../server/engines/child-link.js';
import type { FromScripted, ToScripted } from '../../../support/scripted-child.js';

const program = fileURLToPath(new URL('../../../support/scripted-child.js', import.meta.url));
const question: ToScripted = { do: 'question' };

let link: ChildLink<ToScripted, FromScripted>;
/** What happened, in words. */
let story: string[] = [];
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  story = [];
  link = await ChildLink.start({ program, what: 'child', remedy: 'less' });
});
afterEach(async () => {
  vi.useRealTimers();
  await link.stop();
});

function ask(name: string, limitMs: number): Promise<string> {
  const asking = {
    ...{ limitMs, missed: `did not answer ${name}` },
    onBegun: () => story.push(`${name} begins`),
    onNotice: ({ word }: FromScripted) => word.startsWith('notice'),
  };
  return link.ask(question, asking).then(
    ({ word }) => {
      story.push(`${name}: ${word}`);
      return word;
    },
    (error: ServingError) => {
      story.push(`${name} ${error.code}`);
      return error.message;
    },
  );
}

/** Resolves when the link has heard a notice. */
async function noticed(): Promise<void> {
  const heard = new Promise<void>((resolve) => {
    link.onMessage = ({ word }) => {
      if (word === 'notice of the test') resolve();
      return word === 'notice of the test';
    };
  });
  link.tell({ do: 'say', word: 'notice of the test' });
  await heard;
}

it('answers in order; the second begins when the first is answered', async () => {
  const both = [ask('a', 1000), ask('b', 1000)];
  expect(story).toEqual(['a begins']);
  link.tell({ do: 'say', word: '1' });
  link.tell({ do: 'say', word: '2' });
  await Promise.all(both);
  expect(story).toEqual(['a begins', 'b begins', 'a: 1', 'b: 2']);
});

it('takes no third', async () => {
  const both = [ask('a', 1000), ask('b', 1000)];
  await expect(link.ask(question, { limitMs: 1, missed: '' })).rejects.toThrow('2 questions at a time');
  link.tell({ do: 'say', word: '1' });
  link.tell({ do: 'say', word: '2' });
  await Promise.all(both);
});

it('gives the second its whole time from its own beginning', async () => {
  const [first, second] = [ask('a', 10_000), ask('b', 100)];
  vi.advanceTimersByTime(9000);
  link.tell({ do: 'say', word: '1' });
  await first;
  vi.advanceTimersByTime(99);
  await noticed();
  // That was a sign of life.
  vi.advanceTimersByTime(99);
  link.tell({ do: 'say', word: 'notice' });
  await noticed();
  expect(story).toEqual(['a begins', 'b begins', 'a: 1']);
  vi.advanceTimersByTime(100);
  expect(await second).toBe('The child did not answer b in 100 ms');
  expect(await link.failed).toMatchObject({ code: 'STEP_TIMEOUT' });
});

it('misses the first one’s deadline with both: the second has not begun', async () => {
  const both = [ask('a', 100), ask('b', 1)];
  vi.advanceTimersByTime(100);
  await Promise.all(both);
  expect(story).toEqual(['a begins', 'a STEP_TIMEOUT', 'b STEP_TIMEOUT']);
});

it('ends with both where it is killed from outside', async () => {
  const both = [ask('a', 1000), ask('b', 1000)];
  process.kill(link.pid!, 'SIGKILL');
  const words = 'The child ended by SIGKILL';
  expect(await Promise.all(both)).toEqual([words, words]);
  expect(story).toEqual(['a begins', 'a WORKER_FAILED', 'b WORKER_FAILED']);
  await expect(link.ask(question, { limitMs: 1, missed: '' })).rejects.toThrow(words);
});

it('has read what it said last when it is gone: what it had answered did not end it', async () => {
  const both = [ask('a', 1000), ask('b', 1000)];
  link.tell({ do: 'last', word: '1' });
  await Promise.all(both);
  expect(story).toEqual(['a begins', 'b begins', 'a: 1', 'b WORKER_FAILED']);
});

it('takes no answer of a process that it has killed: the second does not begin', async () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-link-'));
  const file = path.join(scratch, 'said');
  const both = [ask('a', 100), ask('b', 1000)];
  link.tell({ do: 'say and mark', word: 'late', file });
  // Without a turn of this loop: the answer lies in the channel when the time is up.
  execFileSync('sh', ['-c', `until [ -e '${file}' ]; do :; done`], { timeout: 20_000 });
  vi.advanceTimersByTime(100);
  await Promise.all(both);
  expect(story).toEqual(['a begins', 'a STEP_TIMEOUT', 'b STEP_TIMEOUT']);
  rmSync(scratch, { recursive: true });
});

it('ends what it waits for when it is killed for another reason', async () => {
  const both = [ask('a', 1000), ask('b', 1000)];
  link.kill(new ServingError('SHUTTING_DOWN', 'no more'));
  expect(await Promise.all(both)).toEqual(['no more', 'no more']);
});
