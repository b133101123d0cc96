/** The passes over logits by the library: the bits of the readable ones, by every set of instructions. */
import koffi from 'koffi';
import { afterAll, describe, expect, it } from 'vitest';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { MASKED } from '../../../shard-worker/sampler/keep-bits.js';
import { sliceScans } from '../../../shard-worker/sampler/native-scan.js';
import { GumbelNoise } from '../../../shard-worker/sampler/noise.js';
import * as readable from '../../../shard-worker/sampler/slice-scan.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';

const file = kernelLibrary();
const BASE = 32_000;
const { TopCandidates, bestPosition, blockCount } = readable;

describe.runIf(file !== null)(`passes over a slice (seed ${testSeed})`, () => {
  const library = koffi.load(file!);
  const use = library.func('void ss_use_scans(int32_t)') as (variant: number) => void;
  afterAll(() => use(0));
  const random = seededRandom(testSeed);
  const slices = [1, 7, 8, 127, 128, 129, 1000, 2047, 16_001].map((count) => {
    const spread = random.pick([0.01, 2, 30]);
    const logits = Float32Array.from({ length: count }, () => spread * random.normal());
    for (let at = 0; at + 5 < count; at += 37) logits[at] = logits[at + 5]!;
    for (let at = 0; at < count; at += 11) logits[at] = MASKED;
    return logits;
  });
  slices.push(new Float32Array(300).fill(MASKED), new Float32Array(0));

  it.each([1, 2, 3])('by set %i', (variant) => {
    use(variant);
    const native = sliceScans(20_000);
    expect(native.reaching).not.toBeNull();
    for (const logits of slices) {
      const count = logits.length;
      const [seen, expected] = [0, 1].map(() => new Float32Array(blockCount(count))) as [
        Float32Array,
        Float32Array,
      ];
      expect(native.scanBlocks(logits, count, seen)).toBe(readable.scanBlocks(logits, count, expected));
      expect(seen).toEqual(expected);
      const best = bestPosition(logits, count, expected);
      const max = best < 0 ? 0 : logits[best]!;
      for (const temperature of [0.07, 1, 5]) {
        const mass = native.sumOfExponentials(logits, count, expected, max, temperature);
        expect(mass).toBe(readable.sumOfExponentials(logits, count, expected, max, temperature));
        const noise = new GumbelNoise();
        const [a, b] = [0, 1].map(() => ({ position: -1, score: 0 })) as [
          readable.Perturbed,
          readable.Perturbed,
        ];
        for (let position = 0; position < 20; position++) {
          noise.prepare(variant, testSeed, position);
          native.bestPerturbed(logits, count, BASE, expected, best, temperature, noise, a);
          readable.bestPerturbed(logits, count, BASE, expected, best, temperature, noise, b);
          expect(a).toEqual(b);
        }
      }
      for (const k of [1, 2, 64, 256]) {
        const [a, b, scratch] = [0, 1, 2].map(() => new TopCandidates(256)) as [
          InstanceType<typeof TopCandidates>,
          InstanceType<typeof TopCandidates>,
          InstanceType<typeof TopCandidates>,
        ];
        a.select(logits, count, BASE, expected, k, scratch, native.reaching);
        b.select(logits, count, BASE, expected, k, scratch);
        expect(a).toEqual(b);
      }
    }
  });

  it.each([1, 2, 3])('see what is no number, by set %i', (variant) => {
    use(variant);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const count of [1, 15, 300]) {
        const logits = new Float32Array(count);
        logits[random.integer(0, count - 1)] = bad;
        expect(sliceScans(count).scanBlocks(logits, count, new Float32Array(3))).toBe(false);
      }
    }
  });
});

it('are the readable ones where there is no library', () => {
  expect(sliceScans(10, null)).toMatchObject({ scanBlocks: readable.scanBlocks, reaching: null });
});
