/** What every batcher keeps to, in whatever state: run against each implementation with random states. */
import { describe, expect, it } from 'vitest';
import type { Batch, Batcher, BatcherState } from '../../server/batching/batcher.js';
import { kvTokensToStart } from '../../server/batching/slot-table.js';
import { type SeededRandom, seededRandom, testSeed } from '../fixtures/seeded-random.js';

const ROUNDS = 3000;

function randomState(random: SeededRandom): BatcherState {
  const job = () => ({
    promptIds: new Array<number>(random.integer(1, 300)).fill(1),
    maxNewTokens: random.integer(1, 200),
    queuedAtMs: random.integer(0, 100),
  });
  const running = () => {
    const inPrefill = random.next() < 0.4;
    return {
      promptLeft: inPrefill ? random.integer(1, 300) : 0,
      decodesLeft: random.integer(0, 50),
    };
  };
  return {
    waiting: Array.from({ length: random.integer(0, 6) }, job),
    running: Array.from({ length: random.integer(0, 6) }, running),
    freeSlots: random.integer(0, 6),
    freeKvTokens: 64 * random.integer(0, 20),
    prefillTokens: random.integer(1, 200),
  };
}

function check(state: BatcherState, batch: Batch): void {
  const { freeKvTokens, freeSlots, prefillTokens, running, waiting } = state;
  expect(batch.starts).toBeLessThanOrEqual(Math.min(freeSlots, waiting.length));
  const started = waiting.slice(0, batch.starts);
  expect(started.reduce((sum, job) => sum + kvTokensToStart(job), 0)).toBeLessThanOrEqual(freeKvTokens);
  expect(new Set(batch.rows.map((row) => row.index)).size).toBe(batch.rows.length);
  let promptTokens = 0;
  for (const { index, tokens } of batch.rows) {
    expect(tokens).toBeGreaterThan(0);
    expect(index).toBeLessThan(running.length + started.length);
    const promptLeft = running[index]?.promptLeft ?? started[index - running.length]!.promptIds.length;
    if (promptLeft > 0) {
      expect(tokens).toBeLessThanOrEqual(promptLeft);
      promptTokens += tokens;
    } else {
      expect(tokens).toBe(1);
      expect(running[index]!.decodesLeft).toBeGreaterThan(0);
    }
  }
  expect(promptTokens).toBeLessThanOrEqual(prefillTokens);
  expect(batch.starts + batch.rows.length).toBeGreaterThan(0);
}

export function batcherSuite(name: string, make: () => Batcher): void {
  describe(`${name}, as every batcher`, () => {
    it(`keeps slots, KV tokens and prompt tokens in random states (seed ${testSeed})`, () => {
      const random = seededRandom(testSeed);
      const batcher = make();
      let batches = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const state = randomState(random);
        const before = JSON.stringify(state);
        const batch = batcher.next(state, random.integer(0, 300));
        expect(JSON.stringify(state), 'the state is left as it was').toBe(before);
        if (!batch) continue;
        batches++;
        check(state, batch);
      }
      expect(batches).toBeGreaterThan(ROUNDS / 10);
    });

    it('moves the oldest prompt, and every sequence that decodes, in every step', () => {
      const random = seededRandom(testSeed + 1);
      const batcher = make();
      for (let round = 0; round < ROUNDS; round++) {
        const state = { ...randomState(random), waiting: [] };
        const indices = new Set(batcher.next(state, 1000)?.rows.map((row) => row.index));
        const oldest = state.running.findIndex((sequence) => sequence.promptLeft > 0);
        if (oldest >= 0) expect(indices).toContain(oldest);
        state.running.forEach((sequence, index) => {
          if (sequence.promptLeft === 0 && sequence.decodesLeft > 0) expect(indices).toContain(index);
        });
      }
    });

    it('has nothing to run in an empty state', () => {
      const empty = { waiting: [], running: [], freeSlots: 4, freeKvTokens: 1024, prefillTokens: 64 };
      expect(make().next(empty, 0)).toBeNull();
      expect(make().wakeAtMs(empty)).toBeNull();
    });

    it('has nothing to run when all is planned and the ends are awaited', () => {
      const planned = {
        waiting: [],
        running: [{ promptLeft: 0, decodesLeft: 0 }],
        freeSlots: 4,
        freeKvTokens: 1024,
        prefillTokens: 64,
      };
      expect(make().next(planned, 0)).toBeNull();
    });
  });
}
