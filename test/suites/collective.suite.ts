/**
 * What every Collective must do: one suite, run against each implementation (test/integration/collective).
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Collective, CollectiveError } from '../../shard-worker/collective/collective.js';

export interface SuiteOptions {
  /** A group of n collectives in this process; a rank waits timeoutMs for another. */
  connect: (worldSize: number, timeoutMs: number) => Promise<Collective[]>;
  worldSizes: readonly number[];
  /** Sums are made in an order of the transport's, the same on all ranks. Absent: as a tree of neighbours. */
  inAnyOrder?: boolean;
}

const LONG_MS = 30_000;
const SHORT_MS = 300;
const SIZES = [1, 7, 2048, 1_048_576];

const POWERS = [1, 10, 100, 1000, 10_000];

/** Values whose sum depends on the order of the additions. */
function fill(values: Float32Array, seed: number): void {
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < values.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    values[i] = (state / 2 ** 31 - 1) * POWERS[state % 5]!;
  }
}

const bits = (values: Float32Array): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength);

/** (p0 + p1) + (p2 + p3): neighbours, then pairs, then pairs of pairs; the odd one waits for the last. */
function treeSum(values: readonly Float32Array[]): Float32Array {
  const [only, second] = values;
  if (second === undefined) return only!;
  let half = 1;
  while (half * 2 < values.length) half *= 2;
  const [left, right] = [treeSum(values.slice(0, half)), treeSum(values.slice(half))];
  return left.map((value, index) => Math.fround(value + right[index]!));
}

/** The error of a promise that must fail. */
async function failureOf(promise: Promise<unknown>): Promise<CollectiveError> {
  try {
    await promise;
  } catch (error) {
    return error as CollectiveError;
  }
  throw new Error('it did not fail');
}

/** Each as near to the exact sum as float32 comes in any order. */
function isNear(sum: Float32Array, summands: readonly Float32Array[]): boolean {
  return sum.every((seen, at) => {
    const values = summands.map((summand) => summand[at]!);
    const exact = values.reduce((total, value) => total + value, 0);
    const size = values.reduce((total, value) => total + Math.abs(value), 0);
    return Math.abs(seen - exact) <= size * summands.length * 2 ** -24;
  });
}

export function describeCollective(
  name: string,
  { connect, inAnyOrder = false, worldSizes }: SuiteOptions,
): void {
  describe(`${name} collective`, () => {
    const group: Collective[] = [];
    const open = async (worldSize: number, timeoutMs = LONG_MS): Promise<Collective[]> => {
      const opened = await connect(worldSize, timeoutMs);
      group.push(...opened);
      return opened;
    };
    afterEach(async () => {
      await Promise.all(group.splice(0).map((one) => one.close()));
    });

    for (const worldSize of worldSizes) {
      const order = inAnyOrder ? 'in any order' : 'as a tree of neighbours';
      it(`gives each of ${worldSize} ranks the bits of the float32 sum ${order}`, async () => {
        const ranks = await open(worldSize);
        for (const [op, floats] of SIZES.entries()) {
          const partials = ranks.map((one) => one.allocate(`p${op}`, 'partial', floats));
          const sums = ranks.map((one) => one.allocate(`s${op}`, 'sum', floats));
          for (const [rank, partial] of partials.entries()) fill(partial, rank + 1);
          const expected = treeSum(partials);
          await Promise.all(
            ranks.map((one, rank) => one.allReduce({ step: 1, op }, partials[rank]!, sums[rank]!, floats)),
          );
          const bitsOf = bits(inAnyOrder ? sums[0]! : expected);
          for (const sum of sums) expect(bits(sum).equals(bitsOf)).toBe(true);
          if (inAnyOrder) expect(isNear(sums[0]!, partials)).toBe(true);
        }
      });

      it(`runs many operations of changing length on ${worldSize} ranks without lockstep`, async () => {
        const ranks = await open(worldSize);
        const capacity = 2048;
        await Promise.all(
          ranks.map(async (one, rank) => {
            const partials = ['a', 'b'].map((buffer) => one.allocate(buffer, 'partial', capacity));
            const sum = one.allocate('sum', 'sum', capacity);
            for (let op = 0; op < 300; op++) {
              const floats = op % 3 === 0 ? 1 + (op % capacity) : capacity;
              const partial = partials[op % 2]!;
              partial.fill(op + rank, 0, floats);
              await one.allReduce({ step: 1, op }, partial, sum, floats);
              const expected = worldSize * op + (worldSize * (worldSize - 1)) / 2;
              expect([sum[0], sum[floats - 1]]).toEqual([expected, expected]);
            }
          }),
        );
      });

      it(`gathers pieces of any length at rank 0 of ${worldSize} and broadcasts its answer`, async () => {
        const ranks = await open(worldSize);
        const lengthOf = (rank: number, op: number): number => [0, 5, 1000 + rank, 600_000][op]!;
        const results = await Promise.all(
          ranks.map(async (one, rank) => {
            const answers: number[] = [];
            for (let op = 0; op < 4; op++) {
              const piece = new Uint8Array(lengthOf(rank, op)).fill(rank + 1);
              const gathering = one.gather({ step: 2, op: 2 * op }, piece);
              piece.fill(99); // The piece belongs to the caller again as soon as the call returned.
              const pieces = await gathering;
              expect(pieces === null).toBe(rank !== 0);
              pieces?.forEach((got, from) => {
                expect(Buffer.from(got).equals(Buffer.alloc(lengthOf(from, op), from + 1))).toBe(true);
              });
              const answer = rank === 0 ? new Uint8Array(lengthOf(0, op)).fill(op + 1) : null;
              const got = await one.broadcast({ step: 2, op: 2 * op + 1 }, answer);
              expect(got.byteLength).toBe(lengthOf(0, op));
              answers.push(got.at(-1) ?? 0);
            }
            return answers;
          }),
        );
        for (const answers of results) expect(answers).toEqual([0, 2, 3, 4]);
      });

      it(`counts what each of ${worldSize} ranks did`, async () => {
        const ranks = await open(worldSize);
        await Promise.all(
          ranks.map(async (one, rank) => {
            const [a, b] = ['a', 'b'].map((buffer) => one.allocate(buffer, 'partial', 16));
            const sum = one.allocate('sum', 'sum', 16);
            await one.allReduce({ step: 1, op: 0 }, a!, sum, 16);
            await one.allReduce({ step: 1, op: 1 }, b!, sum, 8);
            await one.gather({ step: 1, op: 2 }, new Uint8Array(10));
            await one.broadcast({ step: 1, op: 3 }, rank === 0 ? new Uint8Array(20) : null);
          }),
        );
        for (const [rank, one] of ranks.entries()) {
          const peers = worldSize - 1;
          const control = rank === 0 ? 20 * peers : 10;
          expect(one.counters).toMatchObject({
            allReduces: 2,
            gathers: 1,
            broadcasts: 1,
            bytesSent: worldSize === 1 ? 0 : peers * (64 + 32) + control,
          });
        }
      });
    }

    it('gives memory at a multiple of 64 bytes, zeroed', async () => {
      const { default: koffi } = await import('koffi');
      const [one] = await open(worldSizes[0]!);
      for (const place of ['partial', 'sum'] as const) {
        const memory = one!.allocate('x', place, 1000);
        expect(koffi.address(memory) % 64n).toBe(0n);
        expect(memory.length).toBe(1000);
        expect(memory.every((value) => value === 0)).toBe(true);
      }
    });

    it('refuses everything after close', async () => {
      const ranks = await open(worldSizes[0]!);
      const one = ranks[0]!;
      const partial = one.allocate('p', 'partial', 4);
      const sum = one.allocate('s', 'sum', 4);
      await one.close();
      await one.close();
      const tag = { step: 1, op: 0 };
      expect((await failureOf((async () => one.allReduce(tag, partial, sum, 4))())).kind).toBe('CLOSED');
      expect((await failureOf(one.gather(tag, new Uint8Array(1)))).kind).toBe('CLOSED');
      expect((await failureOf(one.broadcast(tag, new Uint8Array(1)))).kind).toBe('CLOSED');
    });

    if (worldSizes.some((worldSize) => worldSize > 1)) describeFailures(open);
  });
}

function describeFailures(open: (worldSize: number, timeoutMs?: number) => Promise<Collective[]>): void {
  const start = (one: Collective, op: number, floats = 8, partial = one.allocate('p', 'partial', 8)) => ({
    partial,
    done: Promise.resolve(one.allReduce({ step: 1, op }, partial, one.allocate('s', 'sum', 8), floats)),
  });

  it('waits for a late rank', async () => {
    const ranks = await open(3);
    const events: string[] = [];
    const early = ranks
      .slice(0, 2)
      .map((one, rank) => start(one, 0).done.then(() => events.push(`end ${rank}`)));
    // Time for a wrong end to show itself: many turns of the event loop, not a sleep.
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    events.push('late rank comes');
    await Promise.all([...early, start(ranks[2]!, 0).done]);
    expect(events[0]).toBe('late rank comes');
    expect(events).toHaveLength(3);
  });

  it('reports a rank that does not come as TIMEOUT, by name', async () => {
    const ranks = await open(3, SHORT_MS);
    const failures = await Promise.all([
      failureOf(start(ranks[0]!, 0).done),
      failureOf(start(ranks[2]!, 0).done),
    ]);
    for (const failure of failures) {
      expect(failure).toMatchObject({ name: 'CollectiveError', kind: 'TIMEOUT', peer: 1 });
      expect(failure.message).toContain('rank 1');
      expect(failure.message).toContain(`${SHORT_MS} ms`);
    }
    const later = await failureOf(ranks[0]!.gather({ step: 2, op: 0 }, new Uint8Array(1)));
    expect(later).toBe(failures[0]);
  });

  it('reports a rank that left as PEER_LOST, to those who wait for it', async () => {
    const ranks = await open(3);
    const failing = [ranks[0]!, ranks[2]!].map((one) => failureOf(start(one, 0).done));
    await ranks[1]!.close();
    for (const failure of await Promise.all(failing)) {
      expect(failure).toMatchObject({ kind: 'PEER_LOST', peer: 1 });
    }
  });

  it('fails a pending operation with CLOSED when this rank is closed', async () => {
    const operations: ((one: Collective) => Promise<unknown>)[] = [
      (one) => start(one, 0).done,
      (one) => one.gather({ step: 1, op: 0 }, new Uint8Array(1)),
    ];
    for (const operation of operations) {
      const [one] = await open(2);
      const pending = failureOf(operation(one!));
      await one!.close();
      expect((await pending).kind).toBe('CLOSED');
    }
  });

  const outOfStep = async (
    first: (one: Collective) => Promise<unknown>,
    second: (one: Collective) => Promise<unknown>,
  ): Promise<CollectiveError[]> => {
    const ranks = await open(2);
    return Promise.all([failureOf(first(ranks[0]!)), failureOf(second(ranks[1]!))]);
  };

  it('refuses a peer at another step or operation, and names both', async () => {
    const failures = await outOfStep(
      (one) => start(one, 3).done,
      (one) => start(one, 4).done,
    );
    for (const [rank, failure] of failures.entries()) {
      expect(failure).toMatchObject({ kind: 'OUT_OF_STEP', peer: 1 - rank });
      expect(failure.message).toMatch(/op 3\b/);
      expect(failure.message).toMatch(/op 4\b/);
    }
  });

  it('refuses a peer with another number of floats', async () => {
    const failures = await outOfStep(
      (one) => start(one, 0, 8).done,
      (one) => start(one, 0, 4).done,
    );
    for (const failure of failures) expect(failure.kind).toBe('OUT_OF_STEP');
  });

  it('refuses a peer at another kind of operation', async () => {
    const ranks = await open(2);
    const failing = failureOf(start(ranks[0]!, 0).done);
    await ranks[1]!.gather({ step: 1, op: 0 }, new Uint8Array(32)).catch(() => {});
    const failure = await failing;
    expect(failure.kind).toBe('OUT_OF_STEP');
    expect(failure.message).toContain('gather');
    expect(failure.message).toContain('all-reduce');
  });

  it('keeps frames that a faster rank sent ahead for the operations they belong to', async () => {
    const ranks = await open(2);
    const tag = (op: number) => ({ step: 1, op });
    // Rank 1 leaves the gather at once and is at the all-reduce before rank 0 asks for the gather's piece.
    await ranks[1]!.gather(tag(0), Uint8Array.of(7));
    const ahead = start(ranks[1]!, 1);
    expect((await ranks[0]!.gather(tag(0), Uint8Array.of(6)))!.map((piece) => piece[0])).toEqual([6, 7]);
    await Promise.all([ahead.done, start(ranks[0]!, 1).done]);
  });
}
