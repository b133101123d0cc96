import { describe, expect, it } from 'vitest';
import { Finish, GREEDY_SAMPLING, type Step } from '../../../proto/control.js';
import type { ChooseRow } from '../../../shard-worker/sampler/chooser.js';
import type { Span } from '../../../shard-worker/span.js';
import { StepRunner } from '../../../shard-worker/step-runner.js';

/** A model that answers each sequence with the next number after its last token; the spans it was given are kept. */
function createRunner() {
  const seen: {
    step: number;
    spans: { ids: number[]; position: number; offset: number; wantsLogits: boolean }[];
  }[] = [];
  const open = new Set<number>();
  const runner = new StepRunner({
    executor: {
      program: [],
      makesVectors: false,
      begin(step: number, spans: readonly Span[]) {
        seen.push({
          step,
          spans: spans.map((span) => ({
            ids: Array.from({ length: span.count }, (_, index) => span.sequence.idAt(span.position + index)),
            position: span.position,
            offset: span.offset,
            wantsLogits: span.wantsLogits,
          })),
        });
      },
      run: async () => 0,
      output: () => new Float32Array(1),
    },
    kvCache: {
      slotTokens: 100,
      reservedBytes: 0,
      touchedBytes: 0,
      open: (slot: number) => void open.add(slot),
      close: (slot: number) => void open.delete(slot),
      openSlots: () => [...open],
    },
    chooser: {
      choose: async (_step: number, _opBase: number, rows: readonly ChooseRow[]) =>
        rows.map(({ sequence }) => ({
          tokenId: sequence.idAt(sequence.length - 1) + 1,
          logprob: Number.NaN,
          topLogprobs: [],
        })),
    },
    collective: { counters: { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 } },
    weightBytes: 7,
  });
  return { runner, seen, open };
}

const openSequence = (
  slot: number,
  sequence: number,
  promptIds: number[],
  rest: { max?: number; ends?: number[] } = {},
) => ({
  slot,
  sequence,
  promptIds,
  maxNewTokens: rest.max ?? 10,
  endIds: rest.ends ?? [],
  sampling: GREEDY_SAMPLING,
});

const step = (number: number, rest: Partial<Step>): Step => ({
  step: number,
  closeSlots: [],
  opens: [],
  rows: [],
  ...rest,
});

describe('StepRunner', () => {
  it('packs chunks and decodes side by side and wants logits only where all tokens are through', async () => {
    const { runner, seen } = createRunner();
    await runner.run(
      step(1, {
        opens: [openSequence(0, 5, [10, 11, 12]), openSequence(3, 6, [20, 21])],
        rows: [
          { slot: 0, sequence: 5, tokens: 2 },
          { slot: 3, sequence: 6, tokens: 2 },
        ],
      }),
    );
    const result = await runner.run(
      step(2, {
        rows: [
          { slot: 3, sequence: 6, tokens: 1 },
          { slot: 0, sequence: 5, tokens: 1 },
        ],
      }),
    );
    expect(seen.map(({ spans }) => spans)).toEqual([
      [
        { ids: [10, 11], position: 0, offset: 0, wantsLogits: false },
        { ids: [20, 21], position: 0, offset: 2, wantsLogits: true },
      ],
      [
        { ids: [22], position: 2, offset: 0, wantsLogits: true },
        { ids: [12], position: 2, offset: 1, wantsLogits: true },
      ],
    ]);
    expect(result.rows.map((row) => [row.slot, row.hasToken, row.tokenId])).toEqual([
      [3, true, 23],
      [0, true, 13],
    ]);
  });

  it('ends a row at its end id or token budget and skips it in a step planned ahead', async () => {
    const { runner, seen } = createRunner();
    const rows = [
      { slot: 0, sequence: 1, tokens: 1 },
      { slot: 1, sequence: 2, tokens: 1 },
    ];
    const first = await runner.run(
      step(1, { opens: [openSequence(0, 1, [1], { ends: [2] }), openSequence(1, 2, [1], { max: 2 })], rows }),
    );
    expect(first.rows.map((row) => row.finish)).toEqual([Finish.END_ID, Finish.RUNNING]);
    const second = await runner.run(step(2, { rows }));
    expect(second.rows.map((row) => [row.skipped, row.hasToken, row.finish])).toEqual([
      [true, false, Finish.END_ID],
      [false, true, Finish.LENGTH],
    ]);
    const third = await runner.run(step(3, { rows }));
    expect(third.rows.every((row) => row.skipped && !row.hasToken)).toBe(true);
    expect(seen).toHaveLength(2);
  });

  it('closes before it opens, so that a slot can be handed on in one step', async () => {
    const { runner, open } = createRunner();
    await runner.run(
      step(1, { opens: [openSequence(0, 1, [1])], rows: [{ slot: 0, sequence: 1, tokens: 1 }] }),
    );
    await runner.run(
      step(2, {
        closeSlots: [0],
        opens: [openSequence(0, 2, [5])],
        rows: [{ slot: 0, sequence: 2, tokens: 1 }],
      }),
    );
    expect([...open]).toEqual([0]);
    expect(runner.inspect(9)).toMatchObject({ id: 9, steps: 2, openSlots: [0], weightBytes: 7 });
  });

  it('refuses a step that breaks the contract', async () => {
    const { runner } = createRunner();
    await expect(runner.run(step(2, {}))).rejects.toThrow('steps come in order');
    await runner.run(step(1, { opens: [openSequence(0, 1, [1])] }));
    await expect(runner.run(step(2, { rows: [{ slot: 0, sequence: 9, tokens: 1 }] }))).rejects.toThrow(
      'slot 0 does not hold sequence 9',
    );
    await expect(runner.run(step(3, { rows: [{ slot: 0, sequence: 1, tokens: 2 }] }))).rejects.toThrow(
      'row of 2 tokens at 0, but the sequence has 1',
    );
    await expect(runner.run(step(4, { opens: [openSequence(0, 2, [1])] }))).rejects.toThrow(
      'slot 0 is taken',
    );
    await expect(runner.run(step(5, { closeSlots: [7] }))).rejects.toThrow('slot 7 is not open');
  });
});
