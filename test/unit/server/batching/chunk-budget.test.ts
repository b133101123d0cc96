/** The prompt tokens of a step follow the measured speed, the load and the policy. */
import { describe, expect, it } from 'vitest';
import { ChunkBudget, type ChunkBudgetOptions } from '../../../../server/batching/chunk-budget.js';
import { planRows } from '../../../../server/batching/row-planner.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const make = (options: Partial<ChunkBudgetOptions> = {}) =>
  new ChunkBudget({ gapMs: 500, scheduling: 'throughput', maxTokens: 512, ...options });

/** A budget that knows a machine. */
function taught(curve: (tokens: number) => number, options: Partial<ChunkBudgetOptions> = {}): ChunkBudget {
  const budget = make(options);
  for (let round = 0; round < 10; round++) {
    for (let tokens = 1; tokens <= 640; tokens = Math.ceil(tokens * 1.2))
      budget.observe({ tokens, pairs: 0 }, curve(tokens));
  }
  return budget;
}

const NEW_KERNEL = (tokens: number): number => 22 + 1.05 * tokens;
const OLD_KERNEL = (tokens: number): number => 35 + 9 * tokens;

describe('the chunk budget', () => {
  it('starts small beside streams, before anything was measured', () => {
    expect(make().tokens({ decodes: 1, prompts: 1 })).toBe(16);
    expect(make().tokens({ decodes: 0, prompts: 1 })).toBe(128);
    expect(make({ maxTokens: 12 }).tokens({ decodes: 0, prompts: 1 })).toBe(12);
  });

  it('runs whole prompts alone, at most for four gaps', () => {
    expect(taught(NEW_KERNEL).tokens({ decodes: 0, prompts: 1 })).toBe(512);
    const slow = taught(OLD_KERNEL).tokens({ decodes: 0, prompts: 1 });
    expect(OLD_KERNEL(slow)).toBeGreaterThan(1700);
    expect(OLD_KERNEL(slow)).toBeLessThan(2100);
  });

  for (const [name, curve] of [
    ['fast', NEW_KERNEL],
    ['slow', OLD_KERNEL],
  ] as const) {
    it(`fills the gap of the streams and no more, on a ${name} machine`, () => {
      for (const decodes of [1, 8, 32]) {
        const tokens = taught(curve).tokens({ decodes, prompts: 4 });
        expect(curve(decodes + tokens)).toBeLessThanOrEqual(500);
        expect(curve(decodes + tokens)).toBeGreaterThan(350);
      }
    });
  }

  it('grows with the number of prompts that wait, but for throughput', () => {
    const tokens = (scheduling: ChunkBudgetOptions['scheduling'], prompts: number): number =>
      taught(NEW_KERNEL, { scheduling }).tokens({ decodes: 8, prompts });
    const counts = [1, 4, 8, 32];
    const balanced = counts.map((prompts) => tokens('balanced', prompts));
    const latency = counts.map((prompts) => tokens('latency', prompts));
    expect([...balanced].sort((a, b) => a - b)).toEqual(balanced);
    expect(new Set(balanced).size).toBe(4);
    counts.forEach((prompts, at) => {
      expect(latency[at]).toBeLessThan(balanced[at]!);
      expect(balanced[at]).toBeLessThan(tokens('throughput', prompts));
    });
  });

  it('is bounded by the time of a chunk where one is set', () => {
    const budget = taught(NEW_KERNEL, { chunkMs: 50 });
    const tokens = budget.tokens({ decodes: 8, prompts: 30 });
    expect(tokens).toBeGreaterThan(38);
    expect(tokens).toBeLessThan(55);
  });

  it('gives prompts a quarter of the step where the streams alone take longer than the gap', () => {
    const budget = taught(OLD_KERNEL, { gapMs: 100 });
    const tokens = budget.tokens({ decodes: 32, prompts: 1 });
    expect(tokens).toBeGreaterThanOrEqual(8);
    expect(tokens).toBeLessThanOrEqual(11);
  });

  // 610 and 238: two points near to each other at the end of the curve, the larger one measured low, said that more tokens cost next to nothing.
  for (const seed of [610, 238, testSeed]) {
    it(`holds the gap while it learns a machine, from the first step on, in a crowd that changes (seed ${seed})`, () => {
      const random = seededRandom(seed);
      for (const curve of [NEW_KERNEL, OLD_KERNEL, (tokens: number) => 5 + 0.1 * tokens]) {
        for (const scheduling of ['throughput', 'balanced', 'latency'] as const) {
          const budget = make({ scheduling });
          let worst = 0;
          for (let step = 0; step < 400; step++) {
            const decodes = random.integer(0, 24);
            const tokens = budget.tokens({ decodes, prompts: random.integer(1, 100) });
            const ms = curve(decodes + tokens) * (0.95 + random.next() / 10);
            if (decodes > 0) worst = Math.max(worst, ms);
            budget.observe({ tokens: decodes + tokens, pairs: 0 }, ms);
          }
          expect(worst).toBeLessThanOrEqual(500);
        }
      }
    });
  }

  for (const pairMs of [0, 0.0001, 0.0004, 0.0012]) {
    it(`holds the gap of 8 streams beside long prompts where a pair costs ${pairMs} ms, two steps ahead`, () => {
      const random = seededRandom(testSeed);
      const budget = make();
      const flying: { work: { tokens: number; pairs: number }; ms: number }[] = [];
      const run = (tokens: number, pairs: number): number => {
        const ms = (20 + 3.4 * tokens + pairMs * pairs) * (0.95 + random.next() / 10);
        flying.push({ work: { tokens, pairs }, ms });
        // The next step is planned while this one runs.
        if (flying.length > 1) budget.observe(flying[0]!.work, flying.shift()!.ms);
        return ms;
      };
      for (let step = 0; step < 20; step++) run(8, 8 * (16 + step));
      let worst = 0;
      for (const prompt of [1500, 4000, 8000]) {
        for (let rows = 0; rows < prompt; ) {
          const load = { decodes: 8, prompts: 1, decodePairs: 800, promptRows: rows };
          const tokens = Math.min(prompt - rows, budget.tokens(load));
          const ms = run(8 + tokens, 800 + tokens * (rows + tokens / 2));
          // A few tokens behind so many rows may take longer by themselves: a prompt gets on all the same.
          if (tokens > 8) worst = Math.max(worst, ms);
          rows += tokens;
        }
      }
      expect(worst).toBeLessThanOrEqual(500);
    });
  }

  it('keeps the same distance from the gap on a machine whose steps differ by half, once it knows that', () => {
    const random = seededRandom(testSeed);
    const budget = make();
    let late = 0;
    for (let step = 0; step < 600; step++) {
      const tokens = budget.tokens({ decodes: 8, prompts: 1 });
      const ms = NEW_KERNEL(8 + tokens) * (1 + random.next() / 2);
      if (step >= 100 && ms > 500) late++;
      budget.observe({ tokens: 8 + tokens, pairs: 0 }, ms);
    }
    expect(late).toBeLessThan(25);
  });

  it('runs a first prompt no longer than a warm-up lets expect, on a machine that has shown nothing else', () => {
    const slow = make();
    slow.observe({ tokens: 33, pairs: 0 }, 33 * 40);
    expect(slow.tokens({ decodes: 0, prompts: 1 })).toBeLessThanOrEqual(50);
    const quick = make();
    quick.observe({ tokens: 33, pairs: 0 }, 150);
    expect(quick.tokens({ decodes: 0, prompts: 1 })).toBeGreaterThanOrEqual(128);
  });

  it('starves nobody: a long prompt gets through among short ones that keep coming, in either order', () => {
    for (const order of ['shortest', 'fair'] as const) {
      const budget = taught(OLD_KERNEL, { scheduling: 'latency' });
      const prompts = [{ promptLeft: 2000, decodesLeft: 1 }];
      let steps = 0;
      for (; prompts[0]!.promptLeft === 2000 || prompts[0]!.decodesLeft === 1; steps++) {
        expect(steps, order).toBeLessThan(2000);
        while (prompts.length < 6) prompts.push({ promptLeft: 10, decodesLeft: 1 });
        const prefillTokens = budget.tokens({ decodes: 8, prompts: prompts.length });
        for (const { index, tokens } of planRows(prompts, { prefillTokens }, order))
          prompts[index]!.promptLeft -= tokens;
        if (prompts[0]!.promptLeft === 0) break;
        for (let at = prompts.length - 1; at > 0; at--)
          if (prompts[at]!.promptLeft === 0) prompts.splice(at, 1);
      }
    }
  });
});
