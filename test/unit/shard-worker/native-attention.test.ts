/** shard-worker/native-attention.ts and the kernels under it: against attention in doubles, and the same bits however a token came. */
import { describe, expect, it } from 'vitest';
import type { HostDevice } from '../../../shard-worker/device/device.js';
import { KvCache, type KvType } from '../../../shard-worker/kv-cache.js';
import { loadKernels } from '../../../shard-worker/native/kernels.js';
import { NativeMemory } from '../../../shard-worker/native/native-memory.js';
import { NativeAttention } from '../../../shard-worker/native-attention.js';
import type { Span } from '../../../shard-worker/span.js';
import { seededRandom } from '../../fixtures/seeded-random.js';

const kernels = loadKernels();
const device = { reserve: (bytes: number) => new NativeMemory(bytes) } as unknown as HostDevice;
const VARIANTS = { best: 0, portable: 1, avx2: 2, avx512: 3 };

interface Case {
  heads: number;
  kvHeads: number;
  dim: number;
  tokens: number;
  window?: number;
  /** Tokens of the pieces that the text is cut into. */
  piece?: number;
  /** A value is its key. */
  isOne?: boolean;
  softCap?: number;
  sinkColumn?: number;
  positionColumn?: number;
  isWhole?: boolean;
  type?: KvType;
  variant?: number;
  slots?: number;
}

/** Tokens of a sequence in a step. */
interface Place {
  slot: number;
  offset: number;
  count: number;
  position: number;
}

class Bench {
  readonly cache: KvCache;
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
  readonly output: Float32Array;
  readonly #attention: NativeAttention;
  readonly #memories: NativeMemory[];
  readonly #what: Case;

  constructor(what: Case) {
    const { heads, kvHeads, dim, tokens, slots = 1, type = 'fp32', variant = 0 } = what;
    this.#what = what;
    const buffer = (columns: number) => ({ memory: new NativeMemory(3 * tokens * columns * 4), columns });
    const [query, key, ownValue, output] = [
      buffer(heads * dim),
      buffer(kvHeads * dim),
      buffer(kvHeads * dim),
      buffer(heads * dim),
    ] as const;
    const value = what.isOne ? key : ownValue;
    if (what.isOne) ownValue.memory.free();
    const floats = ({ memory, columns }: typeof query): Float32Array =>
      memory.float32(0, 3 * tokens * columns);
    [this.query, this.key, this.value, this.output] = [query, key, value, output].map(floats) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    this.#memories = [...new Set([query, key, value, output])].map(({ memory }) => memory);
    const keysIn = what.isWhole ? ('step' as const) : ('slot' as const);
    this.cache = new KvCache({
      ...{ device, numLayers: keysIn === 'step' ? 0 : 2, numKvHeads: kvHeads, headDim: dim },
      ...{ maxSlots: slots, slotTokens: tokens, type, leadingRows: what.sinkColumn === undefined ? 0 : 1 },
      valuesAreKeys: what.isOne === true,
    });
    for (let slot = 0; slot < slots; slot++) this.cache.open(slot);
    const { positionColumn, sinkColumn, softCap } = what;
    this.#attention = new NativeAttention({
      kernels: kernels!,
      ...{ device, kvCache: this.cache, query, key, value, output, maxSpans: 4, variant },
      manifest: {
        attend: {
          ...{ variants: [], keysIn },
          ...(sinkColumn === undefined ? {} : { sinkColumn }),
          ...(positionColumn === undefined ? {} : { positionColumn }),
          ...(softCap === undefined ? {} : { softCap }),
          ...(what.isOne ? { valuesAreKeys: true } : {}),
        },
        perRank: { numHeads: heads, numKvHeads: kvHeads, headDim: dim, vocab: 1 },
      },
    });
  }

  attend(spans: readonly Place[], layer = 1): void {
    const { isWhole, piece = null, window = null } = this.#what;
    const full = spans.map(({ slot, ...span }) => ({ ...span, sequence: { slot } }) as unknown as Span);
    this.#attention.attendAll(full, isWhole ? 0 : layer, window, piece);
  }

  free(): void {
    for (const memory of this.#memories) memory.free();
  }
}

/** The same in doubles, of the packed tokens 0 … tokens − 1 of one sequence. */
function reference(what: Case, { query, key, value }: Bench): Float64Array {
  const { heads, kvHeads, dim, tokens, window, softCap, sinkColumn, positionColumn, isWhole } = what;
  const output = new Float64Array(tokens * heads * dim);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const q = query.subarray((token * heads + head) * dim, (token * heads + head + 1) * dim);
      const kvHead = Math.floor(head / (heads / kvHeads));
      const pieceStart = what.piece === undefined ? 0 : token - (token % what.piece);
      const first = window === undefined ? pieceStart : Math.max(0, token + 1 - window);
      const end = isWhole ? tokens : token + 1;
      const scores: number[] = [];
      for (let seen = first; seen < end; seen++) {
        let score = 0;
        for (let d = 0; d < dim; d++) {
          const k = d === positionColumn ? seen : (key[(seen * kvHeads + kvHead) * dim + d] ?? 0);
          score += (q[d] ?? 0) * k;
        }
        scores.push(softCap === undefined ? score : softCap * Math.tanh(score / softCap));
      }
      const sink = sinkColumn === undefined ? Number.NEGATIVE_INFINITY : (q[sinkColumn] ?? 0);
      const most = Math.max(sink, ...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const total = weights.reduce((sum, weight) => sum + weight, Math.exp(sink - most));
      for (let d = 0; d < dim; d++) {
        const sum = weights.reduce(
          (all, weight, at) => all + weight * (value[((first + at) * kvHeads + kvHead) * dim + d] ?? 0),
          0,
        );
        output[(token * heads + head) * dim + d] = sum / total;
      }
    }
  }
  return output;
}

function fill(bench: Bench, what: Case, seed: number): void {
  const random = seededRandom(seed);
  const { dim, sinkColumn } = what;
  const number = (): number => random.normal();
  bench.query.forEach((_, index) => {
    bench.query[index] = number() / Math.sqrt(dim);
  });
  // Where values are keys, they are written once more.
  bench.value.forEach((_, index) => {
    bench.value[index] = number();
  });
  bench.key.forEach((_, index) => {
    bench.key[index] = index % dim === sinkColumn ? 0 : number();
  });
  if (what.positionColumn !== undefined) {
    for (let at = what.positionColumn; at < bench.query.length; at += dim)
      bench.query[at] = 0.01 * random.next();
  }
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.slice().buffer);
}

const CASES: Record<string, Case> = {
  'one head of one column': { heads: 1, kvHeads: 1, dim: 1, tokens: 5 },
  'odd heads': { heads: 3, kvHeads: 1, dim: 7, tokens: 70 },
  'a head a key': { heads: 4, kvHeads: 4, dim: 16, tokens: 130 },
  '32 heads a key': { heads: 32, kvHeads: 1, dim: 32, tokens: 67 },
  '71 heads a key': { heads: 71, kvHeads: 1, dim: 64, tokens: 9 },
  'wide heads': { heads: 4, kvHeads: 2, dim: 256, tokens: 33 },
  'a tail of columns': { heads: 4, kvHeads: 2, dim: 80, tokens: 65 },
  window: { heads: 4, kvHeads: 2, dim: 24, tokens: 200, window: 37 },
  'window of one': { heads: 2, kvHeads: 2, dim: 8, tokens: 66, window: 1 },
  'soft cap': { heads: 4, kvHeads: 2, dim: 32, tokens: 80, softCap: 3 },
  sinks: { heads: 6, kvHeads: 2, dim: 17, tokens: 100, sinkColumn: 16 },
  'sinks and a window': { heads: 6, kvHeads: 2, dim: 17, tokens: 150, sinkColumn: 16, window: 64 },
  ALiBi: { heads: 6, kvHeads: 3, dim: 33, tokens: 140, positionColumn: 32 },
  pieces: { heads: 4, kvHeads: 2, dim: 24, tokens: 200, piece: 37 },
  'a piece beyond the last row': { heads: 2, kvHeads: 1, dim: 16, tokens: 90, piece: 89 },
  'values that are keys': { heads: 6, kvHeads: 1, dim: 40, tokens: 150, isOne: true },
  'all of a text': { heads: 6, kvHeads: 3, dim: 20, tokens: 131, isWhole: true },
};

describe.skipIf(kernels === null)('NativeAttention', () => {
  const available = Object.entries(VARIANTS).filter(([, variant]) => {
    const bench = new Bench({ heads: 1, kvHeads: 1, dim: 1, tokens: 1, variant });
    try {
      bench.attend([{ slot: 0, offset: 0, count: 1, position: 0 }]);
      return true;
    } catch {
      return false;
    } finally {
      bench.free();
    }
  });

  for (const [name, what] of Object.entries(CASES)) {
    it(`is near attention in doubles, and every variant has the same bits: ${name}`, () => {
      let best: Uint32Array | null = null;
      const { dim, heads, tokens } = what;
      for (const [variantName, variant] of available) {
        // Without fused products in the processor each is a call.
        if (variantName === 'portable' && heads * tokens * tokens * dim > 600_000) continue;
        const bench = new Bench({ ...what, variant });
        fill(bench, what, 1);
        bench.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
        const length = what.tokens * what.heads * what.dim;
        const made = bench.output.slice(0, length);
        if (best === null) {
          const exact = reference(what, bench);
          let worst = 0;
          for (let at = 0; at < length; at++)
            worst = Math.max(worst, Math.abs((made[at] ?? 0) - (exact[at] ?? 0)));
          expect(worst).toBeLessThan(4e-6);
        }
        best ??= bits(made);
        expect(bits(made)).toEqual(best);
        bench.free();
      }
    });

    if (what.isWhole) continue;
    it(`a token has the same bits however it came: ${name}`, () => {
      for (const type of ['fp32', 'fp16', 'int8'] as const) {
        const whole = new Bench({ ...what, type });
        fill(whole, what, 2);
        whole.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
        const length = what.tokens * what.heads * what.dim;
        const expected = bits(whole.output.subarray(0, length));
        // Three sequences of the same tokens in each step, in pieces of their own; the third goes on behind rows of the first.
        const random = seededRandom(3);
        const crowd = new Bench({ ...what, type, slots: 3 });
        const done = [0, 0, 0];
        const copied = Math.floor(what.tokens / 2);
        while (done.some((count) => count < what.tokens)) {
          if (done[2] === 0 && (done[0] ?? 0) >= copied && copied > 0) {
            crowd.cache.copyRows(0, 2, 0, copied);
            done[2] = copied;
          }
          const spans: Place[] = [];
          let offset = 0;
          for (const slot of [0, 1, 2]) {
            const position = done[slot] ?? 0;
            const most = slot === 1 ? 1 : random.integer(1, 40);
            const count = Math.min(what.tokens - position, most);
            if (count === 0 || (slot === 2 && position === 0)) continue;
            spans.push({ slot, offset, count, position });
            for (const [to, from, columns] of [
              [crowd.query, whole.query, what.heads],
              [crowd.key, whole.key, what.kvHeads],
              [crowd.value, whole.value, what.kvHeads],
            ] as const) {
              const width = columns * what.dim;
              to.set(from.subarray(position * width, (position + count) * width), offset * width);
            }
            offset += count;
            done[slot] = position + count;
          }
          crowd.attend(spans);
          for (const span of spans) {
            const width = what.heads * what.dim;
            const made = crowd.output.subarray(span.offset * width, (span.offset + span.count) * width);
            expect(bits(made)).toEqual(
              expected.subarray(span.position * width, (span.position + span.count) * width),
            );
          }
        }
        whole.free();
        crowd.free();
      }
    });
  }

  it('halves are near floats, and what no half holds becomes the largest', () => {
    const what: Case = { heads: 4, kvHeads: 2, dim: 40, tokens: 90 };
    const [floats, halves] = [new Bench(what), new Bench({ ...what, type: 'fp16' })];
    for (const bench of [floats, halves]) {
      fill(bench, what, 4);
      bench.value[3] = 1e6;
      bench.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
    }
    expect(halves.output[3]).toBe(65504);
    const length = what.heads * what.dim;
    let worst = 0;
    for (let at = length; at < 80 * length; at++) {
      if (at % what.dim === 3) continue;
      worst = Math.max(worst, Math.abs((halves.output[at] ?? 0) - (floats.output[at] ?? 0)));
    }
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(0.005);
    expect(halves.cache.touchedBytes).toBe(floats.cache.touchedBytes / 2);
    for (const bench of [floats, halves]) bench.free();
  });

  it('bytes with a scale a row are within what rounding to 127 steps allows, and every variant writes the same', () => {
    const what: Case = { heads: 4, kvHeads: 2, dim: 40, tokens: 90 };
    const floats = new Bench(what);
    fill(floats, what, 7);
    // Rows of zeros, of tiny and of huge numbers; ties between two codes.
    floats.value.fill(0, 40, 80);
    floats.value.fill(1e-35, 80, 120);
    floats.value.set([1e30, -1e30, 5e29], 120);
    for (let column = 0; column < 40; column++)
      floats.value[160 + column] = column === 0 ? 127 : column + 0.5;
    floats.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
    let first: Uint32Array | null = null;
    for (const [, variant] of available) {
      const bytes = new Bench({ ...what, type: 'int8', variant });
      for (const name of ['query', 'key', 'value'] as const) bytes[name].set(floats[name]);
      bytes.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
      first ??= bits(bytes.output);
      expect(bits(bytes.output)).toEqual(first);
      // What is read again of a slot that holds them: the first token attends to its own row alone.
      for (let column = 0; column < 40; column++)
        expect(bytes.output[column]).toBeCloseTo(floats.output[column]!, 1);
      expect(bytes.cache.touchedBytes / floats.cache.touchedBytes).toBeCloseTo(44 / 160, 5);
      bytes.free();
    }
    floats.free();
  });

  it('bytes: attention of many tokens is near that of floats', () => {
    const what: Case = { heads: 4, kvHeads: 2, dim: 64, tokens: 90 };
    const [floats, bytes] = [new Bench(what), new Bench({ ...what, type: 'int8' })];
    for (const bench of [floats, bytes]) {
      fill(bench, what, 8);
      bench.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
    }
    let worst = 0;
    let squares = 0;
    const length = what.tokens * what.heads * what.dim;
    for (let at = 0; at < length; at++) {
      const off = Math.abs((bytes.output[at] ?? 0) - (floats.output[at] ?? 0));
      worst = Math.max(worst, off);
      squares += off * off;
    }
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(0.03);
    expect(Math.sqrt(squares / length)).toBeLessThan(0.005);
    for (const bench of [floats, bytes]) bench.free();
  });

  it('what is no number reaches only those who see it, and infinities what they should', () => {
    const what: Case = { heads: 4, kvHeads: 2, dim: 20, tokens: 100, window: 30 };
    const [clean, marred] = [new Bench(what), new Bench(what)];
    for (const bench of [clean, marred]) fill(bench, what, 5);
    const bad = 50;
    marred.key.fill(Number.NaN, bad * 40, bad * 40 + 20);
    marred.value.fill(Number.NaN, bad * 40, bad * 40 + 20);
    for (const bench of [clean, marred]) {
      bench.attend([{ slot: 0, offset: 0, count: what.tokens, position: 0 }]);
    }
    for (let token = 0; token < what.tokens; token++) {
      const seesIt = token >= bad && token < bad + 30;
      for (let column = 0; column < 80; column++) {
        const at = token * 80 + column;
        if (seesIt && column < 40) expect(marred.output[at]).toBeNaN();
        else expect(marred.output[at]).toBe(clean.output[at]);
      }
    }
    for (const bench of [clean, marred]) bench.free();
  });

  it('rows that a truncated slot still shows are not seen', () => {
    const what: Case = { heads: 2, kvHeads: 1, dim: 16, tokens: 64 };
    const bench = new Bench(what);
    fill(bench, what, 6);
    bench.attend([{ slot: 0, offset: 0, count: 64, position: 0 }]);
    const expected = bits(bench.output.subarray(20 * 32, 21 * 32));
    bench.cache.truncate(0, 20);
    bench.attend([{ slot: 0, offset: 20, count: 1, position: 20 }]);
    expect(bits(bench.output.subarray(20 * 32, 21 * 32))).toEqual(expected);
    bench.free();
  });
});
