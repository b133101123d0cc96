/**
 * A step with more tokens, over all its sequences, than the model has positions. The bug: the rotary operator refuses more tokens
 * than its table has rows, so two prompts side by side took their group down.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { goldenFolder } from '../../support/golden.js';
import { createInProcessGroup } from '../../support/in-process-group.js';

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'crowded-'));
});
afterAll(() => rmSync(store, { recursive: true }));

it.each(['llama', 'phi3-longrope'])(
  '%s: prompts side by side choose what they choose alone',
  async (family) => {
    const { manifest, shardFolder } = await partition({
      folder: goldenFolder(family),
      outStore: store,
      tp: 1,
      dtype: 'fp32',
    });
    const { contextLength, vocabSize } = manifest.model;
    const group = await createInProcessGroup(shardFolder);
    const tokens = Math.floor(contextLength / 2) - 1;
    const opens = [0, 1, 2].map((slot) => ({
      slot,
      sequence: slot + 1,
      promptIds: Array.from({ length: tokens }, (_, index) => (index * 7 + slot * 13) % vocabSize),
      maxNewTokens: 2,
      endIds: [],
      sampling: GREEDY_SAMPLING,
    }));
    let step = 0;
    const run = async (side: typeof opens): Promise<(number | undefined)[]> => {
      const rows = side.map(({ slot, sequence }) => ({ slot, sequence, tokens }));
      const [result] = await group.step({ step: ++step, closeSlots: [], opens: side, rows });
      await group.step({ step: ++step, closeSlots: side.map(({ slot }) => slot), opens: [], rows: [] });
      return result?.rows.map((row) => row.tokens[0]?.tokenId) ?? [];
    };
    const alone: (number | undefined)[] = [];
    for (const open of opens) alone.push(...(await run([open])));
    expect(3 * tokens).toBeGreaterThan(contextLength);
    expect(await run(opens)).toEqual(alone);
  },
);
