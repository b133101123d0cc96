/**
 * ALiBi: what a head's scores gain for every position a key is nearer.
 *
 * Source  Press et al. 2022; transformers build_alibi_tensor (BLOOM), build_mpt_alibi_tensor, in float32
 */

/** The slopes of a power of two of heads: 2^(-max/heads · 1 … heads). */
const geometric = (heads: number, max: number): number[] =>
  Array.from({ length: heads }, (_, head) => 2 ** ((-max * (head + 1)) / heads));

/** BLOOM: the power of two below the number of heads, then every second one of twice that. */
export function bloomSlopes(numHeads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(numHeads));
  const rest = geometric(2 * power, 8).filter((_, head) => head % 2 === 0);
  return [...geometric(power, 8), ...rest].slice(0, numHeads);
}

/** MPT: of the power of two above the number of heads, every second one, then the others. */
export function mptSlopes(numHeads: number): number[] {
  const power = 2 ** Math.ceil(Math.log2(numHeads));
  const all = geometric(power, 8);
  if (power === numHeads) return all;
  const odd = all.filter((_, head) => head % 2 === 1);
  return [...odd, ...all.filter((_, head) => head % 2 === 0)].slice(0, numHeads);
}
