/**
 * The passes of slice-scan.ts by the library of our own kernels, to the same bits.
 *
 * In      as there; the library (native/kernels.ts)
 * Out     `sliceScans()`: the library's, or the readable ones where this machine has none
 * How     the library goes over all logits and tells positions; what is done with the few is JavaScript, as without it. Under noise 16
 *         blocks a call, since the best so far rules out most of the next
 */
import { loadKernels, type ScanCalls } from '../native/kernels.js';
import { MASKED } from './keep-bits.js';
import { GUMBEL_MAX, type GumbelNoise, hashLimit } from './noise.js';
import * as readable from './slice-scan.js';

export interface SliceScans {
  scanBlocks: typeof readable.scanBlocks;
  sumOfExponentials: typeof readable.sumOfExponentials;
  bestPerturbed: typeof readable.bestPerturbed;
  /** null: TopCandidates looks for itself. */
  reaching: typeof readable.reaching | null;
}

const { BLOCK_IDS, blockCount } = readable;
const BLOCKS_A_CALL = 16;

/** @param largest count of logits of a row */
export function sliceScans(
  largest: number,
  calls: ScanCalls | null = loadKernels()?.scans ?? null,
): SliceScans {
  if (calls === null) return { ...readable, reaching: null };
  const positions = new Int32Array(Math.max(1, largest));
  const limits = new Float64Array(BLOCKS_A_CALL);
  return {
    scanBlocks: (logits, count, blockMax) => calls.blocks(logits, count, blockMax) === 1,
    sumOfExponentials: calls.mass,
    reaching: (logits, count, blockMax, least) =>
      positions.subarray(0, calls.reach(logits, count, blockMax, least, positions)),
    bestPerturbed(logits, count, base, blockMax, best, temperature, noise, into) {
      into.position = best;
      into.score = Number.NEGATIVE_INFINITY;
      if (best < 0) return;
      let winner = best;
      let highest = logits[best]! / temperature + noise.gumbel(base + best);
      const blocks = blockCount(count);
      for (let first = 0; first < blocks; first += BLOCKS_A_CALL) {
        const end = Math.min(blocks, first + BLOCKS_A_CALL);
        if (!setLimits(limits, blockMax, first, end, temperature, highest)) continue;
        const found = noiseReaching(
          calls,
          noise,
          base,
          first,
          Math.min(count, end * BLOCK_IDS),
          limits,
          positions,
        );
        for (let index = 0; index < found; index++) {
          const at = positions[index]!;
          if (logits[at]! <= MASKED) continue;
          // Most cannot win even with the largest noise that is left to them.
          if (logits[at]! / temperature + GUMBEL_MAX < highest) continue;
          const score = logits[at]! / temperature + noise.gumbel(base + at);
          if (score > highest || (score === highest && at < winner)) {
            winner = at;
            highest = score;
          }
        }
      }
      into.position = winner;
      into.score = highest;
    },
  };
}

/** @returns whether any block can win */
function setLimits(
  limits: Float64Array,
  blockMax: Float32Array,
  first: number,
  end: number,
  temperature: number,
  highest: number,
): boolean {
  let any = false;
  for (let block = first; block < end; block++) {
    const top = blockMax[block]! / temperature;
    const can = top + GUMBEL_MAX >= highest;
    limits[block - first] = can ? hashLimit(highest - top) : -1;
    any ||= can;
  }
  return any;
}

function noiseReaching(
  calls: ScanCalls,
  noise: GumbelNoise,
  base: number,
  firstBlock: number,
  end: number,
  limits: Float64Array,
  positions: Int32Array,
): number {
  const { key, secondKey } = noise.keys;
  return calls.noise(key, secondKey, base, firstBlock * BLOCK_IDS, end, limits, positions);
}
