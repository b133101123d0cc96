/** test/device/run-steps.ts, device-steps.ts: a step that crashes or hangs costs its own row alone. */
import { describe, expect, it } from 'vitest';
import { NO_FIGURES } from '../device/device-check.js';
import { deviceSteps } from '../device/device-steps.js';
import { type ChildMessage, runSteps, type StepChild } from '../device/run-steps.js';

const names = ['one', 'two', 'three', 'four'];
const right = (name: string): ChildMessage => ({ row: { ...NO_FIGURES, name, verdict: 'right' } });

/** Processes that answer to each step as told. */
async function run(
  answers: Record<string, 'crash' | 'hang' | 'refuse'>,
  options: { nowMs?: () => number } = {},
) {
  const started: number[] = [];
  let killed = 0;
  const start = (first: number): StepChild => {
    started.push(first);
    let at = first;
    return {
      next: async () => {
        const name = names[at++]!;
        if (answers[name] === 'crash') return null;
        if (answers[name] === 'refuse') return { refused: 'no NVIDIA driver' };
        return answers[name] === 'hang' ? new Promise(() => {}) : right(name);
      },
      kill: () => {
        killed++;
      },
      ending: () => 'was ended by SIGSEGV',
    };
  };
  const told: string[] = [];
  const rows = await runSteps({
    ...{ names, start, stepMs: 20, deadlineMs: 1000, nowMs: () => 0, ...options },
    onRow: ({ verdict }) => told.push(verdict),
  });
  return { rows, told, started, killed };
}

describe('runSteps', () => {
  it('runs all in one process where nothing fails', async () => {
    const { killed, started, told } = await run({});
    expect(told).toEqual(['right', 'right', 'right', 'right']);
    expect([started, killed]).toEqual([[0], 1]);
  });

  it('goes on in another process behind a step that crashes, and behind one that hangs', async () => {
    const { killed, rows, started, told } = await run({ two: 'crash', three: 'hang' });
    expect(told).toEqual(['right', 'its process was ended by SIGSEGV', 'not done within 0 s', 'right']);
    expect(rows).toMatchObject(names.map((name) => ({ name })));
    expect([started, killed]).toEqual([[0, 2, 3], 3]);
  });

  it('says why nothing can run, and of a device that is gone later', async () => {
    expect((await run({ one: 'refuse' })).rows).toBe('no NVIDIA driver');
    const { told } = await run({ two: 'crash', three: 'refuse' });
    expect(told).toEqual(['right', 'its process was ended by SIGSEGV', 'no NVIDIA driver', 'right']);
  });

  it('runs nothing after its time', async () => {
    let clock = 0;
    const nowMs = () => (clock += 250);
    const { told } = await run({ two: 'crash' }, { nowMs });
    expect(told.slice(0, 2)).toEqual(['right', 'its process was ended by SIGSEGV']);
    expect(told.at(-1)).toBe('not run: no time left');
    expect(told).toHaveLength(4);
  });
});

it('has goldens of five families at tp 1, one at tp 2, one in 4 bits, speed, and NCCL where it is', () => {
  const goldens = deviceSteps('webgpu').map(({ name }) => name);
  expect(goldens).toEqual([
    ...['llama fp32 tp 1', 'mistral fp32 tp 1', 'qwen2 fp32 tp 1', 'gpt2 fp32 tp 1', 'phi3 fp32 tp 1'],
    ...['llama fp32 tp 2', 'llama int4 tp 1', 'speed'],
  ]);
  expect(deviceSteps('cuda').map(({ name }) => name)).toEqual([...goldens, 'nccl']);
});
