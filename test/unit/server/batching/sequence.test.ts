/** A sequence: tokens to text, stop strings, ends, counts. */
import { describe, expect, it } from 'vitest';
import { type ChosenToken, Finish } from '../../../../proto/control.js';
import { Sequence } from '../../../../server/batching/sequence.js';
import type { TokenTexts } from '../../../../server/batching/token-texts.js';
import type { GenerationJobOptions } from '../../../../server/jobs/generation-job.js';
import type { GenerateRequest } from '../../../../server/requests/generate-request.js';
import type { GenerationEvent } from '../../../../server/requests/job-events.js';
import { FAKE_TEXTS, makeJob, makeRequest, readAll } from '../../../fixtures/generate-requests.js';

/** Tokens are letters here: id 97 is "a". */
const LETTERS: TokenTexts = {
  tokenText: (id) => String.fromCharCode(id),
  isSpecial: () => false,
  detokenizer: () => ({ push: (id) => String.fromCharCode(id), flush: () => '' }),
};

function makeSequence(
  request: Partial<GenerateRequest> = {},
  texts = LETTERS,
  options: Partial<GenerationJobOptions> = {},
): Sequence {
  const job = makeJob({ request: makeRequest(request), maxNewTokens: 50, seed: 77, ...options });
  return new Sequence(job, 3, 1, texts);
}

/** Gives it a token. */
function give(
  sequence: Sequence,
  tokenId: number,
  finish: Finish = Finish.RUNNING,
  nowMs = 0,
  topLogprobs: ChosenToken['topLogprobs'] = [],
): void {
  sequence.append({ tokenId, logprob: -1.5, topLogprobs }, finish, nowMs);
}

/** Feed letters until the sequence ends; what its reader gets. */
async function run(sequence: Sequence, letters: string, last: Finish = Finish.LENGTH) {
  [...letters].forEach((letter, index) => {
    if (sequence.finish !== null) return;
    give(sequence, letter.charCodeAt(0), index === letters.length - 1 ? last : Finish.RUNNING, index);
  });
  return summary((await readAll(sequence.job.stream)).events);
}

function summary(events: GenerationEvent[]) {
  const finish = events.at(-1);
  if (finish?.kind !== 'finish') throw new Error('no finish');
  const texts = events.flatMap((event) => (event.kind === 'prompt-token' ? [] : [event.text]));
  return { streamed: texts.join(''), finish, texts };
}

describe('a sequence', () => {
  it('tells its reader each token and, at the end, the whole text and the counts', async () => {
    const { finish, streamed } = await run(makeSequence(), 'abc');
    expect(streamed).toBe('abc');
    expect(finish).toEqual({
      kind: 'finish',
      reason: 'length',
      text: '',
      generatedText: 'abc',
      promptTokens: 3,
      cachedTokens: 0,
      newTokens: 3,
      seed: 77,
    });
  });

  it('ends before a stop string that spans tokens, and never lets a part of it out', async () => {
    const { finish, texts } = await run(makeSequence({ stopStrings: ['xyz'] }), 'abxyzcd');
    expect(texts).toEqual(['a', 'b', '', '', '', '']);
    expect(finish).toMatchObject({ reason: 'stop-string', generatedText: 'ab', newTokens: 5, stop: 'xyz' });
  });

  it('tells what of the request ended it: which stop string, or which stop token', async () => {
    const two = await run(makeSequence({ stopStrings: ['zz', 'c'] }), 'abc');
    expect(two.finish).toMatchObject({ reason: 'stop-string', stop: 'c' });
    const ofRequest = await run(makeSequence({ stopTokenIds: [99] }), 'abc', Finish.END_ID);
    expect(ofRequest.finish).toMatchObject({ reason: 'end-id', stop: 99 });
    const ofModel = await run(makeSequence({ stopTokenIds: [98] }), 'abc', Finish.END_ID);
    expect(ofModel.finish).not.toHaveProperty('stop');
  });

  it('keeps the stop string when asked to', async () => {
    const { finish } = await run(makeSequence({ stopStrings: ['xyz'], includeStopString: true }), 'abxyzcd');
    expect(finish).toMatchObject({ reason: 'stop-string', generatedText: 'abxyz' });
  });

  it('gives out at the end what could have become a stop string', async () => {
    const { finish, streamed } = await run(makeSequence({ stopStrings: ['xyz'] }), 'abxy');
    expect(finish).toMatchObject({ reason: 'length', text: 'xy', generatedText: 'abxy' });
    expect(streamed).toBe('abxy');
  });

  it('counts the end token and leaves its text out', async () => {
    const { finish, streamed } = await run(makeSequence(), 'ab#', Finish.END_ID);
    expect(streamed).toBe('ab');
    expect(finish).toMatchObject({ reason: 'end-id', generatedText: 'ab', newTokens: 3 });
  });

  it('keeps the end token when stop strings are to be included', async () => {
    const { finish } = await run(makeSequence({ includeStopString: true }), 'ab#', Finish.END_ID);
    expect(finish).toMatchObject({ reason: 'end-id', generatedText: 'ab#' });
  });

  it('holds back an incomplete character and gives it out at the end', async () => {
    const sequence = makeSequence({}, FAKE_TEXTS);
    give(sequence, 400);
    give(sequence, 7);
    give(sequence, 400, Finish.LENGTH);
    const { finish, texts } = summary((await readAll(sequence.job.stream)).events);
    expect(texts).toEqual(['', '§<7>', '', '\uFFFD']);
    expect(finish.generatedText).toBe('§<7>\uFFFD');
  });

  it('finds a stop string in the text that was held back', async () => {
    const sequence = makeSequence({ stopStrings: ['\uFFFD'] }, FAKE_TEXTS);
    give(sequence, 7);
    give(sequence, 400, Finish.LENGTH);
    const { finish } = summary((await readAll(sequence.job.stream)).events);
    expect(finish).toMatchObject({ reason: 'stop-string', generatedText: '<7>' });
  });

  it('reports log-probabilities and alternatives with their text only when asked for', async () => {
    const asked = makeSequence({ logprob: true, topLogprobs: 1 });
    give(asked, 97, Finish.LENGTH, 0, [{ tokenId: 98, logprob: -2 }]);
    expect((await readAll(asked.job.stream)).events[0]).toMatchObject({
      logprob: -1.5,
      topLogprobs: [{ tokenId: 98, text: 'b', logprob: -2 }],
    });
    const plain = makeSequence();
    give(plain, 97, Finish.LENGTH);
    expect((await readAll(plain.job.stream)).events[0]).toMatchObject({
      logprob: Number.NaN,
      topLogprobs: [],
    });
  });

  it('that is preempted in its prompt counts what others had of it once', () => {
    const sequence = new Sequence(
      makeJob({ promptIds: Array.from({ length: 40 }, (_, id) => id), maxNewTokens: 2 }),
      ...([0, 1, FAKE_TEXTS] as const),
    );
    sequence.skipTo(30);
    sequence.preempt();
    sequence.resume(0, 2);
    sequence.skipTo(20);
    expect(sequence.cachedTokens).toBe(20);
    // Kept rows are its own.
    sequence.parkedRows = 25;
    sequence.preempt();
    sequence.resume(0, 3);
    expect([sequence.cachedTokens, sequence.promptLeft]).toEqual([20, 15]);
  });

  it('shows the detokeniser the end of the prompt', () => {
    let context: readonly number[] = [];
    const texts: TokenTexts = {
      ...LETTERS,
      detokenizer: (options) => {
        context = options.context;
        return LETTERS.detokenizer(options);
      },
    };
    makeSequence({}, texts, { promptIds: [1, 2, 3, 4, 5, 6] });
    expect(context).toEqual([3, 4, 5, 6]);
  });

  it('books its prompt in chunks and then its tokens, one short of the budget, since the prompt yields the first', () => {
    const sequence = makeSequence({}, LETTERS, { maxNewTokens: 3 });
    sequence.plan(2);
    sequence.plan(1);
    expect([sequence.promptLeft, sequence.decodesLeft]).toEqual([0, 2]);
    sequence.plan(1);
    sequence.plan(1);
    expect(() => sequence.plan(1)).toThrow(/budget/);
  });

  it('notes when its first token came', () => {
    const sequence = makeSequence();
    give(sequence, 97, Finish.RUNNING, 12);
    give(sequence, 98, Finish.RUNNING, 34);
    expect(sequence.job.firstTokenAtMs).toBe(12);
  });
});
