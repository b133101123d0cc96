/** Tasks within their time: processor time, so that a machine with other work refuses nobody for what it did not give. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../../proto/errors.js';
import { limitedAnswers } from '../../../../../server/engines/llm/limited-task.js';

const LIMIT_MS = 15;
const late = (task: number, limitMs: number) => new ServingError('BAD_REQUEST', `${task} took ${limitMs} ms`);

/** Tasks that never end the first `endless` times. @param shares of its limit that each run has of the processor */
function answersOf(endless: number, shares: readonly number[]) {
  let runs = 0;
  let usedMs = 0;
  let isBefore = false;
  const anew: number[] = [];
  const answer = limitedAnswers(
    (task: number) => {
      while (runs <= endless);
      return task + 1;
    },
    late,
    // Asked before and after each run, also of one that the machine did not even let begin.
    () => {
      isBefore = !isBefore;
      if (isBefore) runs += 1;
      else usedMs += (shares[runs - 1] ?? 0) * LIMIT_MS;
      return usedMs;
    },
    ({ againMs }) => anew.push(againMs),
  );
  return { reply: answer({ task: 1, limitMs: LIMIT_MS }), anew, runs };
}

describe('a task that is not done by its limit', () => {
  it('is refused where it had the processor for so long', () => {
    const { reply, runs } = answersOf(9, [1]);
    expect([reply, runs]).toEqual([{ code: 'BAD_REQUEST', message: '1 took 15 ms' }, 1]);
  });

  it('is begun anew where the machine had other work, with more time, and done', () => {
    expect(answersOf(2, [0.2, 0.2])).toEqual({ reply: { value: 2 }, anew: [94, 240], runs: 3 });
  });

  it('is refused where it is late with that, too', () => {
    const { reply, runs } = answersOf(9, [0.2, 1]);
    expect([reply, runs]).toEqual([{ code: 'BAD_REQUEST', message: '1 took 15 ms' }, 2]);
  });

  it('is the machine’s fault where that never gives it its time: the client may come again', () => {
    const { reply, runs } = answersOf(9, [0, 0]);
    expect(runs).toBe(2);
    expect(reply).toMatchObject({
      code: 'STEP_TIMEOUT',
      message: expect.stringMatching(
        /^The machine is busy: in 240 ms a task got less .* than its limit, 15 ms$/,
      ),
    });
    expect(ServingError.told(reply as { code: string; message: string }).retryable).toBe(true);
  });
});
