/** A sequence for which no token can be chosen, beside others, on real ranks: it ends alone, and alike on every rank. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { Finish, GREEDY_SAMPLING, type SequenceOpen } from '../../../proto/control.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

/** The embedded model's. */
const VOCAB = 4096;
const NEW_TOKENS = 6;

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'row-failure-'));
});
afterAll(() => rmSync(store, { recursive: true }));

const good: SequenceOpen = {
  slot: 0,
  sequence: 1,
  promptIds: [10, 20, 30],
  maxNewTokens: NEW_TOKENS,
  endIds: [],
  sampling: GREEDY_SAMPLING,
};
/** No token may be chosen: every id is an end id, and three tokens must come before one. */
const bad: SequenceOpen = {
  ...good,
  slot: 1,
  sequence: 2,
  endIds: Array.from({ length: VOCAB }, (_, id) => id),
  sampling: { ...GREEDY_SAMPLING, minNewTokens: 3, topLogprobs: 2 },
};

async function run(tp: number, opens: readonly SequenceOpen[]) {
  const model = path.join(repositoryRoot, 'models', 'embedded');
  const { shardFolder } = await partition({ folder: model, outStore: store, tp, dtype: 'fp32' });
  const group = await createInProcessGroup(shardFolder, { slotTokens: 80 });
  const steps = [];
  for (let index = 0; index < NEW_TOKENS; index++) {
    const results = await group.step({
      step: index + 1,
      closeSlots: [],
      opens: index === 0 ? [...opens] : [],
      rows: opens.map(({ promptIds, sequence, slot }) => ({
        slot,
        sequence,
        tokens: index === 0 ? promptIds.length : 1,
      })),
    });
    for (const { rows } of results) expect(rows).toEqual(results[0]?.rows);
    steps.push(results[0]?.rows ?? []);
  }
  return steps;
}

for (const tp of [1, 2]) {
  it(`ends alone at degree ${tp}, and the sequence beside it writes what it writes alone`, async () => {
    const alone = await run(tp, [good]);
    const together = await run(tp, [good, bad]);
    expect(together.map((rows) => rows[0]?.tokens)).toEqual(alone.map((rows) => rows[0]?.tokens));
    expect(together[0]?.[1]).toMatchObject({
      tokens: [],
      finish: Finish.FAILED,
      failure: { code: 'BAD_REQUEST', message: expect.stringContaining('all of the vocabulary is masked') },
    });
    for (const rows of together.slice(1)) {
      expect(rows[1]).toMatchObject({ skipped: true, finish: Finish.FAILED });
    }
  });
}
