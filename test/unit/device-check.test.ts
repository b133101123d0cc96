/** test/device/device-check.ts: what `npm run check:device` tells. */
import { describe, expect, it } from 'vitest';
import type { RemoteDevice } from '../../shard-worker/device/device.js';
import {
  type CheckedCase,
  checkDevice,
  checkSentence,
  checkTable,
  isRight,
  NO_FIGURES,
  stepLine,
  verdictOf,
} from '../device/device-check.js';

const device = {} as RemoteDevice;
const row = (one: CheckedCase, verdict = 'right') => ({
  ...{ ...one, verdict, note: '', deviation: 1e-6, stepMs: 1.5, crossingBytes: 2000, memoryBytes: null },
});

describe('checkDevice', () => {
  const cases = ['llama', 'mistral', 'gpt2'].map((name) => ({ name, tp: 1, dtype: 'fp32' as const }));

  it('goes on behind a case that fails, and says why it did', async () => {
    const check = async (one: CheckedCase) => {
      if (one.name === 'mistral') throw new Error('Gather requires f16');
      return row(one);
    };
    const rows = await checkDevice({ device, store: '', cases, check, deadlineMs: 1, nowMs: () => 0 });
    expect(rows.map(({ verdict }) => verdict)).toEqual(['right', 'Gather requires f16', 'right']);
    expect(rows.map(isRight)).toEqual([true, false, true]);
  });

  it('runs nothing after its time', async () => {
    let nowMs = 0;
    const check = async (one: CheckedCase) => {
      nowMs += 10;
      return row(one);
    };
    const rows = await checkDevice({ device, store: '', cases, check, deadlineMs: 15, nowMs: () => nowMs });
    expect(rows.map(({ verdict }) => verdict)).toEqual(['right', 'right', 'not run: no time left']);
  });
});

it('tells wrong logits from other tokens', () => {
  expect(verdictOf(1e-6, true)).toBe('right');
  expect(verdictOf(1e-6, false)).toBe('tokens differ');
  expect(verdictOf(0.5, true)).toBe('logits are 5.0e-1 apart');
  expect(verdictOf(Number.NaN, true)).toBe('logits are NaN apart');
});

it('makes a table whose columns stand below each other, without those in which nothing stands', () => {
  const [head, line] = checkTable([row({ name: 'llama', tp: 2, dtype: 'fp32' })]);
  expect(line).toMatch(/^llama {2}fp32 {5}2 {3}1\.0e-6 {5}1\.5/);
  expect(head!.indexOf('deviation')).toBe(line!.indexOf('1.0e-6'));
  expect(head!.indexOf('result')).toBe(line!.indexOf('right'));
  expect(head).not.toContain('MiB');
  const memoryBytes = 3 * 2 ** 20;
  const [more, told] = checkTable([{ ...row({ name: 'llama', tp: 2, dtype: 'fp32' }), memoryBytes }]);
  expect(told!.at(more!.indexOf('MiB'))).toBe('3');
});

it('ends with how many are right, and which are not', () => {
  const rows = [
    row({ name: 'llama', tp: 2, dtype: 'fp32' }),
    row({ name: 'gpt2', tp: 1, dtype: 'fp32' }, 'tokens differ'),
  ];
  expect(checkSentence(rows.slice(0, 1), 1, 1400)).toBe('1 of 1 steps are right, in 1 s');
  expect(checkSentence(rows, 3, 61_000)).toBe('1 of 3 steps are right, in 61 s; not right: gpt2 fp32 tp 1');
  expect(stepLine(rows[1]!)).toBe('gpt2 fp32 tp 1: tokens differ');
  expect(stepLine({ ...NO_FIGURES, name: 'nccl', verdict: 'right', note: 'two ranks' })).toBe(
    'nccl: right: two ranks',
  );
});
