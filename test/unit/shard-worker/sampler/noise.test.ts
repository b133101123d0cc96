import { describe, expect, it } from 'vitest';
import { GUMBEL_MAX, GumbelNoise, hashLimit } from '../../../../shard-worker/sampler/noise.js';

const SAMPLES = 200_000;

/** Uniform in (0, 1): the noise through its own distribution function. */
function* uniforms(vary: 'id' | 'position' | 'seedLow' | 'seedHigh'): Generator<number> {
  const noise = new GumbelNoise();
  for (let i = 0; i < SAMPLES; i++) {
    noise.prepare(vary === 'seedLow' ? i : 1, vary === 'seedHigh' ? i : 2, vary === 'position' ? i : 3);
    yield Math.exp(-Math.exp(-noise.gumbel(vary === 'id' ? i : 4)));
  }
}

describe('the noise', () => {
  for (const vary of ['id', 'position', 'seedLow', 'seedHigh'] as const) {
    it(`is uniform, and independent of its neighbour, as the ${vary} counts up`, () => {
      const cells = 16;
      const counts = new Array<number>(cells * cells).fill(0);
      let previous: number | null = null;
      for (const u of uniforms(vary)) {
        const cell = Math.min(cells - 1, Math.floor(u * cells));
        if (previous !== null) counts[previous * cells + cell]! += 1;
        previous = cell;
      }
      const expected = (SAMPLES - 1) / counts.length;
      const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      // 255 degrees of freedom: mean 255, deviation 22.6. The seeds are fixed, so this cannot fail by chance.
      expect(chiSquare).toBeGreaterThan(255 - 5 * 22.6);
      expect(chiSquare).toBeLessThan(255 + 5 * 22.6);
    });
  }

  it('is a pure function of seed, position and id, and all of them count', () => {
    const noise = new GumbelNoise();
    const at = (seedLow: number, seedHigh: number, position: number, id: number): number => {
      noise.prepare(seedLow, seedHigh, position);
      return noise.gumbel(id);
    };
    expect(at(1, 2, 3, 4)).toBe(at(1, 2, 3, 4));
    const all = [
      at(1, 2, 3, 4),
      at(9, 2, 3, 4),
      at(1, 9, 3, 4),
      at(1, 2, 9, 4),
      at(1, 2, 3, 9),
      at(2, 1, 3, 4),
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  it('stays within its bound for every hash', () => {
    const noise = new GumbelNoise();
    for (const hash of [0, 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1]) {
      for (let id = 0; id < 100; id++) {
        const value = noise.gumbelOfHash(hash, id);
        expect(Number.isFinite(value)).toBe(true);
        expect(value).toBeLessThanOrEqual(GUMBEL_MAX);
      }
    }
  });

  it('lies above a gap only where the hash is within the limit', () => {
    const noise = new GumbelNoise();
    noise.prepare(5, 6, 7);
    for (const gap of [-3, 0, 1, 4, 8, 20]) {
      for (let id = 0; id < 20_000; id++) {
        if (noise.gumbel(id) > gap) expect(noise.hash(id)).toBeLessThanOrEqual(hashLimit(gap));
      }
    }
  });
});
