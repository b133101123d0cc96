/** Parsers of strangers' bytes (a third a run, all in test:long), for seconds and with one seed: no crash, no hang, no error that is not one of ours, memory bounded. */
import { describe, expect, it } from 'vitest';
import { drawn } from '../../fixtures/seeded-random.js';
import { ALL_TARGETS } from '../../fuzz/all-targets.js';
import { MAX_RSS_BYTES, runFuzz } from '../../fuzz/run-fuzz.js';

const SEED = 20_261_130;
const CASES = 3000;
/** Planted cases take no time, or all of it. */
const HANG_MS = 500;
const weights = ALL_TARGETS.reduce((sum, { weight }) => sum + weight, 0);

describe('cases made of a seed', () => {
  it.each(
    drawn(ALL_TARGETS, 3).map(({ name, weight }) => [name, Math.ceil((CASES * weight) / weights)] as const),
  )('%s: %d', async (target, count) => {
    const { findings, rss } = await runFuzz({ target, seed: SEED, from: 0, count });
    expect(findings).toEqual([]);
    expect(rss).toBeLessThan(MAX_RSS_BYTES);
  });
});

describe('a parser with a bug', () => {
  it.each([
    ['planted-error', 'error'],
    ['planted-crash', 'crash'],
    ['planted-hang', 'hang'],
  ])('%s is found, and its case by number', async (target, kind) => {
    const { findings } = await runFuzz({ target, seed: 2, from: 0, count: 80 }, HANG_MS);
    expect(findings.length).toBeGreaterThan(0);
    for (const { index, kind: found } of findings) {
      expect(found).toBe(kind);
      const alone = await runFuzz({ target, seed: 2, from: index, count: 1 }, HANG_MS);
      expect(alone.findings.map((one) => one.index)).toEqual([index]);
    }
  });
});
