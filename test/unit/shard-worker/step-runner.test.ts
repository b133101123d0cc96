import { describe, expect, it } from 'vitest';
import { Finish, GREEDY_SAMPLING, type Row, type RowResult, type Step } from '../../../proto/control.js';
import { LateMasks } from '../../../shard-worker/late-masks.js';
import type { ChooseRow } from '../../../shard-worker/sampler/chooser.js';
import type { Span } from '../../../shard-worker/span.js';
import { StepRunner } from '../../../shard-worker/step-runner.js';

const UNCHOOSABLE = 66;

/** A model that answers each sequence with the next number after its last token; the spans it was given are kept. */
function createRunner(unchoosable = UNCHOOSABLE) {
  const seen: {
    step: number;
    spans: { ids: number[]; position: number; offset: number; outputRows: number }[];
  }[] = [];
  const open = new Set<number>();
  const moved: (string | number)[][] = [];
  const lateMasks = new LateMasks();
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
            outputRows: span.outputRows,
          })),
        });
      },
      run: async () => 0,
      output: () => new Float32Array(1),
      // As a model that counts the positions of long sequences elsewhere.
      positionOffset: ({ maxNewTokens }: { maxNewTokens: number }) => (maxNewTokens > 50 ? 1000 : 0),
    },
    kvCache: {
      slotTokens: 100,
      reservedBytes: 0,
      touchedBytes: 0,
      open: (slot: number) => void open.add(slot),
      close: (slot: number) => void open.delete(slot),
      truncate: (slot: number, rows: number) => void moved.push(['keep', slot, rows]),
      copyRows: (...copied: number[]) => void moved.push(['copy', ...copied]),
      openSlots: () => [...open],
    },
    chooser: {
      choose: async (_step: number, _opBase: number, rows: readonly ChooseRow[]) =>
        rows.map(({ sequence: { mask, newIds, promptIds } }) => {
          const last = newIds.at(-1) ?? promptIds.at(-1)!;
          const token = { tokenId: mask?.ids[0] ?? last + 1, logprob: Number.NaN, topLogprobs: [] };
          const failure = { code: 'BAD_REQUEST', message: 'none' };
          return last === unchoosable ? { ...token, tokenId: -1, failure } : token;
        }),
    },
    collective: { counters: { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 } },
    ...{ weightBytes: 7, lateMasks },
  });
  return { runner, seen, open, moved, lateMasks };
}

const openSequence = (
  slot: number,
  sequence: number,
  promptIds: number[],
  rest: { max?: number; ends?: number[]; kept?: number } = {},
) => ({
  slot,
  sequence,
  promptIds,
  maxNewTokens: rest.max ?? 10,
  endIds: rest.ends ?? [],
  sampling: GREEDY_SAMPLING,
  keptRows: rest.kept ?? 0,
});

const step = (number: number, rest: Partial<Step>): Step => ({
  step: number,
  closeSlots: [],
  opens: [],
  rows: [],
  ...rest,
});

const idsOf = (row: RowResult | undefined): number[] => (row?.tokens ?? []).map(({ tokenId }) => tokenId);

describe('StepRunner', () => {
  it('waits for masks behind the pass, and leaves out a row whose mask will not come: it runs again', async () => {
    const { runner, seen, moved, lateMasks } = createRunner();
    const row = (slot: number, sequence: number, tokens = 1): Row => ({ slot, sequence, tokens });
    const later = (slot: number, sequence: number): Row => ({ ...row(slot, sequence), maskFollows: true });
    const mask = (id: number) => ({ ids: [id], bits: new Uint8Array() });
    const opens = [openSequence(0, 5, [10]), openSequence(1, 6, [20]), openSequence(2, 7, [30])];
    await runner.run(step(1, { opens, rows: [row(0, 5), row(1, 6), row(2, 7)] }));
    let isDone = false;
    const second = runner.run(step(2, { rows: [later(0, 5), later(1, 6), row(2, 7)] }));
    void second.then(() => {
      isDone = true;
    });
    lateMasks.put([{ sequence: 6, mask: mask(90) }]);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect(seen).toHaveLength(2);
    expect(isDone).toBe(false);
    lateMasks.put([{ sequence: 5, mask: null }]);
    const [left, bound, free] = (await second).rows;
    expect(left).toMatchObject({ skipped: true, tokens: [], finish: Finish.RUNNING });
    expect([idsOf(bound), idsOf(free)]).toEqual([[90], [32]]);
    expect(moved).toEqual([['keep', 0, 1]]);
    const third = await runner.run(step(3, { rows: [{ ...row(0, 5), mask: mask(80) }, row(1, 6)] }));
    expect(seen[2]!.spans.map(({ ids, position }) => [ids, position])).toEqual([
      [[11], 1],
      [[90], 2],
    ]);
    expect(third.rows.map(idsOf)).toEqual([[80], [91]]);
    // The group is asked to end: what has not come will not.
    const last = runner.run(step(4, { rows: [later(0, 5)] }));
    lateMasks.end();
    expect((await last).rows[0]!.skipped).toBe(true);
  });

  it('forgets what is left of a sequence’s masks when another takes its slot over', async () => {
    const { runner, lateMasks } = createRunner();
    const opens = [openSequence(0, 5, [10], { max: 1 })];
    await runner.run(step(1, { opens, rows: [{ slot: 0, sequence: 5, tokens: 1 }] }));
    // The row behind its last token is skipped; its mask may come all the same.
    const mask = { ids: [90], bits: new Uint8Array() };
    lateMasks.put([{ sequence: 5, mask }]);
    const { rows } = await runner.run(
      step(2, { rows: [{ slot: 0, sequence: 5, tokens: 1, maskFollows: true }] }),
    );
    expect(rows[0]!.skipped).toBe(true);
    const next = [openSequence(0, 6, [10, 11], { kept: 1 })];
    await runner.run(step(3, { opens: next, rows: [{ slot: 0, sequence: 6, tokens: 1 }] }));
    lateMasks.end();
    expect(await lateMasks.take(5)).toBeNull();
  });

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
        { ids: [10, 11], position: 0, offset: 0, outputRows: 0 },
        { ids: [20, 21], position: 0, offset: 2, outputRows: 1 },
      ],
      [
        { ids: [22], position: 2, offset: 0, outputRows: 1 },
        { ids: [12], position: 2, offset: 1, outputRows: 1 },
      ],
    ]);
    expect(result.rows.map((row) => [row.slot, idsOf(row)])).toEqual([
      [3, [23]],
      [0, [13]],
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
    expect(second.rows.map((row) => [row.skipped, idsOf(row), row.finish])).toEqual([
      [true, [], Finish.END_ID],
      [false, [3], Finish.LENGTH],
    ]);
    const third = await runner.run(step(3, { rows }));
    expect(third.rows.every((row) => row.skipped && row.tokens.length === 0)).toBe(true);
    expect(seen).toHaveLength(2);
  });

  it('ends a sequence for which no token can be chosen, and skips it in a step planned ahead', async () => {
    const { runner, seen } = createRunner();
    const rows = [
      { slot: 0, sequence: 1, tokens: 1 },
      { slot: 1, sequence: 2, tokens: 1 },
    ];
    const opens = [openSequence(0, 1, [UNCHOOSABLE]), openSequence(1, 2, [1])];
    const first = await runner.run(step(1, { opens, rows }));
    expect(first.rows).toMatchObject([
      { tokens: [], finish: Finish.FAILED, failure: { code: 'BAD_REQUEST', message: 'none' } },
      { tokens: [{ tokenId: 2 }], finish: Finish.RUNNING, failure: null },
    ]);
    const second = await runner.run(step(2, { rows }));
    expect(second.rows).toMatchObject([
      { skipped: true, tokens: [], finish: Finish.FAILED, failure: null },
      { skipped: false, tokens: [{ tokenId: 3 }] },
    ]);
    expect(seen[1]?.spans).toHaveLength(1);
    await runner.run(step(3, { closeSlots: [0], opens: [openSequence(0, 3, [5])] }));
  });

  it('counts drafts up to the first that is not what is chosen, and forgets the rows of the others', async () => {
    const { moved, runner, seen } = createRunner();
    const opens = [openSequence(0, 1, [10, 11])];
    const first = await runner.run(
      step(1, { opens, rows: [{ slot: 0, sequence: 1, tokens: 2, draftIds: [12, 13, 50, 51] }] }),
    );
    // 14 is chosen where 50 was guessed.
    expect(first.rows.map(idsOf)).toEqual([[12, 13, 14]]);
    expect(seen[0]?.spans).toEqual([
      { ids: [10, 11, 12, 13, 50, 51], position: 0, offset: 0, outputRows: 5 },
    ]);
    expect(moved).toEqual([['keep', 0, 4]]);
    const second = await runner.run(
      step(2, { rows: [{ slot: 0, sequence: 1, tokens: 1, draftIds: [15, 16] }] }),
    );
    expect(second.rows.map(idsOf)).toEqual([[15, 16, 17]]);
    expect(seen[1]?.spans).toEqual([{ ids: [14, 15, 16], position: 4, offset: 0, outputRows: 3 }]);
    expect(moved).toHaveLength(1);
    const third = await runner.run(step(3, { rows: [{ slot: 0, sequence: 1, tokens: 1, draftIds: [9] }] }));
    expect(third.rows.map(idsOf)).toEqual([[18]]);
    expect(moved.at(-1)).toEqual(['keep', 0, 8]);
  });

  it('ends among drafts at an end id, at the last token, and where none can be chosen', async () => {
    const { runner } = createRunner();
    const rows = (draftIds: number[]) =>
      [0, 1, 2].map((slot) => ({ slot, sequence: slot, tokens: 1, draftIds }));
    const opens = [
      openSequence(0, 0, [20], { ends: [22] }),
      openSequence(1, 1, [20], { max: 4 }),
      openSequence(2, 2, [UNCHOOSABLE - 2]),
    ];
    const drafts = [
      [21, 22, 23],
      [21, 22, 23],
      [65, 66, 67],
    ];
    const result = await runner.run(
      step(1, { opens, rows: rows([]).map((row, slot) => ({ ...row, draftIds: drafts[slot]! })) }),
    );
    expect(result.rows.map((row) => [idsOf(row), row.finish])).toEqual([
      [[21, 22], Finish.END_ID],
      [[21, 22, 23, 24], Finish.LENGTH],
      [[65, 66], Finish.FAILED],
    ]);
    expect(result.rows[2]?.failure).toMatchObject({ message: 'none' });
  });

  it('refuses drafts of a row that chooses nothing, is masked, or has no tokens left for them', async () => {
    const run = (row: Partial<Row>, max = 10) => {
      const opens = [openSequence(0, 1, [1, 2], { max })];
      return createRunner().runner.run(
        step(1, { opens, rows: [{ slot: 0, sequence: 1, tokens: 2, draftIds: [3, 4], ...row }] }),
      );
    };
    await expect(run({ tokens: 1 })).rejects.toThrow('2 drafts in a row that cannot have them');
    await expect(run({ mask: { ids: [3], bits: new Uint8Array() } })).rejects.toThrow('2 drafts');
    await expect(run({}, 2)).rejects.toThrow('2 drafts');
    expect((await run({}, 3)).rows.map(idsOf)).toEqual([[3, 4, 5]]);
  });

  it('does not count as warm when no token can be chosen', async () => {
    const { runner } = createRunner(0);
    await expect(runner.warmUp()).rejects.toThrow('none');
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

  it('goes on behind rows of a sequence that has ended, in its slot', async () => {
    const { moved, runner, seen } = createRunner();
    const rows = [{ slot: 2, sequence: 1, tokens: 3 }];
    await runner.run(step(1, { opens: [openSequence(2, 1, [7, 8, 9], { max: 1 })], rows }));
    // 10 was chosen, but never run: its keys are not there.
    const opens = [openSequence(2, 2, [7, 8, 9, 10], { kept: 3 })];
    const result = await runner.run(step(2, { opens, rows: [{ slot: 2, sequence: 2, tokens: 1 }] }));
    expect(moved).toEqual([['keep', 2, 3]]);
    expect(seen[1]?.spans).toEqual([{ ids: [10], position: 3, offset: 0, outputRows: 1 }]);
    expect(result.rows).toMatchObject([{ sequence: 2, tokens: [{ tokenId: 11 }] }]);
  });

  it('copies rows of a sequence that runs, also to one that is not through its prompt', async () => {
    const { moved, runner, seen } = createRunner();
    await runner.run(
      step(1, {
        opens: [openSequence(0, 1, [7, 8, 9, 10]), openSequence(1, 2, [7, 8, 9, 30])],
        rows: [
          { slot: 0, sequence: 1, tokens: 3 },
          { slot: 1, sequence: 2, tokens: 1 },
        ],
      }),
    );
    await runner.run(
      step(2, {
        opens: [openSequence(2, 3, [7, 8, 40])],
        copies: [
          { fromSlot: 0, fromSequence: 1, toSlot: 1, toSequence: 2, rows: 3 },
          { fromSlot: 0, fromSequence: 1, toSlot: 2, toSequence: 3, rows: 2 },
        ],
        rows: [
          { slot: 1, sequence: 2, tokens: 1 },
          { slot: 2, sequence: 3, tokens: 1 },
        ],
      }),
    );
    expect(moved).toEqual([
      ['copy', 0, 1, 1, 3],
      ['copy', 0, 2, 0, 2],
    ]);
    expect(seen[1]?.spans.map(({ ids, position }) => [ids, position])).toEqual([
      [[30], 3],
      [[40], 2],
    ]);
  });

  it('refuses rows that are not there, or not of the same tokens and positions', async () => {
    const ran = async () => {
      const { runner } = createRunner();
      const opens = [openSequence(0, 1, [7, 8, 9, 10])];
      await runner.run(step(1, { opens, rows: [{ slot: 0, sequence: 1, tokens: 3 }] }));
      return runner;
    };
    const copy = { fromSlot: 0, fromSequence: 1, toSlot: 1, toSequence: 2, rows: 2 };
    const refusals: [Partial<Step>, string][] = [
      [
        { opens: [openSequence(1, 2, [7, 8])], copies: [copy] },
        '2 rows of 3 for sequence 2, which has 0 and 2 tokens to begin with',
      ],
      [{ opens: [openSequence(1, 2, [7, 8, 9, 10, 11])], copies: [{ ...copy, rows: 4 }] }, '4 rows of 3'],
      [{ opens: [openSequence(1, 2, [7, 6, 9])], copies: [copy] }, 'sequences 1 and 2 differ at position 1'],
      [
        { opens: [openSequence(1, 2, [7, 8, 9], { max: 60 })], copies: [copy] },
        'count their positions alike',
      ],
      [
        { opens: [openSequence(1, 2, [7, 8, 9])], copies: [{ ...copy, fromSequence: 9 }] },
        'does not hold sequence 9',
      ],
      [{ copies: [copy] }, 'slot 1 does not hold sequence 2'],
      [{ opens: [openSequence(1, 2, [7, 8, 9], { kept: 2 })] }, 'slot 1 is not warm'],
      [{ opens: [openSequence(0, 2, [7, 9, 9], { kept: 2 })] }, 'differ at position 1'],
    ];
    for (const [rest, message] of refusals) {
      await expect((await ran()).run(step(2, rest)), message).rejects.toThrow(message);
    }
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
