/** The prompt tokens of a step follow the measured speed. */
import { describe, expect, it } from 'vitest';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';

describe('the chunk budget', () => {
  it('starts small, before anything was measured', () => {
    expect(new ChunkBudget(50, 512).tokens).toBe(16);
    expect(new ChunkBudget(50, 12).tokens).toBe(12);
  });

  it('comes to as many tokens as fit the time', () => {
    const budget = new ChunkBudget(50, 512);
    // 4 tokens a millisecond.
    for (let step = 0; step < 20; step++) budget.observe(budget.tokens, budget.tokens, budget.tokens / 4);
    expect(budget.tokens).toBe(200);
    // Then the machine gets slower by half.
    for (let step = 0; step < 20; step++) budget.observe(budget.tokens, budget.tokens, budget.tokens / 2);
    expect(budget.tokens).toBeGreaterThan(95);
    expect(budget.tokens).toBeLessThan(105);
  });

  it('stays within its limits on a machine that is very slow or very fast', () => {
    const slow = new ChunkBudget(50, 512);
    slow.observe(64, 64, 64_000);
    expect(slow.tokens).toBe(8);
    const fast = new ChunkBudget(50, 512);
    fast.observe(64, 64, 0.5);
    expect(fast.tokens).toBe(512);
  });

  it('is little moved by the last tokens of a prompt, which pay for a whole pass', () => {
    const budget = new ChunkBudget(50, 512);
    for (let step = 0; step < 20; step++) budget.observe(budget.tokens, budget.tokens, budget.tokens / 4);
    for (let step = 0; step < 20; step++) budget.observe(2, 2, 10);
    expect(budget.tokens).toBeGreaterThan(195);
  });

  it('learns nothing from steps without a prompt', () => {
    const budget = new ChunkBudget(50, 512);
    budget.observe(0, 8, 100);
    budget.observe(64, 64, 0);
    expect(budget.tokens).toBe(16);
  });

  it('lets a chunk take five times as long while nothing decodes, within the tokens of a step', () => {
    const budget = new ChunkBudget(50, 512);
    budget.observe(80, 80, 100);
    expect(budget.tokensAlone).toBe(200);
    expect(budget.tokens).toBe(40);
    expect(new ChunkBudget(50, 48).tokensAlone).toBe(48);
  });

  it('lets a lone chunk be long enough to be cheap, however slow the machine', () => {
    const budget = new ChunkBudget(50, 512);
    expect(budget.tokensAlone).toBe(128);
    budget.observe(80, 80, 800);
    expect([budget.tokens, budget.tokensAlone]).toEqual([8, 128]);
  });
});
