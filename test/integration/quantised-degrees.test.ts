/**
 * int8 and int4 are one model at every degree: whole tensors are quantised and then sliced, so only the order of the sums
 * differs. The kernels round activations to 8 bits, though, and a sum that differs in its last bit can fall on the other
 * side of a rounding edge: logits of long prompts then differ by some thousandths, and a text may part where two tokens are
 * nearly equal. Against fp32 the logits must be near, or the packing would be wrong.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { readGolden } from '../support/golden.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import { repositoryRoot } from '../support/repository-root.js';

const NEW_TOKENS = 64;
/** Largest difference of a logit from fp32, as a share of the largest logit. int4 in blocks of 128 is coarse. */
const NEAR_FP32 = { int8: 0.02, int4: 0.25 };

/** Likewise between degrees: one activation rounded the other way. */
const ROUNDING_EDGE = 0.02;

const golden = readGolden('embedded');
const largest = (values: Float32Array): number =>
  values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const difference = (a: Float32Array, b: Float32Array): number =>
  largest(a.map((value, index) => value - (b[index] ?? Number.NaN)));

describe.each(['int8', 'int4'] as const)('%s', (dtype) => {
  let store: string;
  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'quantised-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  async function generate(tp: number): Promise<{ ids: number[][]; logits: Float32Array[] }> {
    const folder = path.join(repositoryRoot, 'models', 'embedded');
    const { shardFolder } = await partition({ folder, outStore: store, tp, dtype, scales: 'nearest' });
    const group = await createInProcessGroup(shardFolder);
    const ids: number[][] = [];
    const logits: Float32Array[] = [];
    let step = 0;
    for (const [index, prompt] of golden.prompts.entries()) {
      const sequence = index + 1;
      const open = {
        slot: 0,
        sequence,
        promptIds: prompt.ids,
        maxNewTokens: NEW_TOKENS,
        endIds: [],
        sampling: GREEDY_SAMPLING,
      };
      const tokens: number[] = [];
      while (tokens.length < NEW_TOKENS) {
        const isFirst = tokens.length === 0;
        const [result] = await group.step({
          step: ++step,
          closeSlots: [],
          opens: isFirst ? [open] : [],
          rows: [{ slot: 0, sequence, tokens: isFirst ? prompt.ids.length : 1 }],
        });
        if (isFirst) logits.push(group.logits(0).slice());
        tokens.push(result?.rows[0]?.tokenId ?? -1);
      }
      await group.step({ step: ++step, closeSlots: [0], opens: [], rows: [] });
      ids.push(tokens);
    }
    return { ids, logits };
  }

  it('is the same model at tp 1, 2 and 4, near that of fp32', async () => {
    const whole = await generate(1);
    for (const [index, prompt] of golden.prompts.entries()) {
      const exact = golden.logits(prompt, prompt.ids.length - 1);
      const seen = whole.logits[index] ?? new Float32Array(0);
      const share = difference(seen, exact) / largest(exact);
      expect(share).toBeGreaterThan(0);
      expect(share).toBeLessThan(NEAR_FP32[dtype]);
    }
    for (const tp of [2, 4]) {
      const split = await generate(tp);
      const shares = split.logits.map((logits, index) => {
        const other = whole.logits[index] ?? new Float32Array(0);
        return difference(logits, other) / largest(other);
      });
      // With these scales the short prompt meets no rounding edge: the weights are the same, bit for bit.
      expect(shares[0]).toBeLessThan(1e-5);
      expect(Math.max(...shares)).toBeLessThan(ROUNDING_EDGE);
      expect(split.ids[0]).toEqual(whole.ids[0]);
    }
  });
});
