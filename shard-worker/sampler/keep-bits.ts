/**
 * Masks the logits of a slice that have no bit.
 *
 * In      logits that are numbers, all of them; bits over the vocabulary
 * Out     MASKED in the place of those without a bit
 * Cost    of the bytes of bits, and of the ids that are masked among ids that are not: a mask has long runs of one kind (nearly all within a
 *         text in quotes, next to none between its parts)
 */

/** A logit of this value is never chosen. Finite, so that one check finds every NaN and infinity that the model made. */
export const MASKED = -3.4028234663852886e38;

const ALL = 0xff;

/** @param bits id i of the vocabulary: bit i % 8 of byte i / 8 @param from id of position 0 */
export function keepBits(logits: Float32Array, count: number, bits: Uint8Array, from: number): void {
  for (let at = 0; at < count; ) {
    const bit = from + at;
    const shift = bit & 7;
    const end = Math.min(count, at + 8 - shift);
    const within = (1 << (end - at)) - 1;
    let masked = (~bits[bit >> 3]! >> shift) & within;
    if (masked === 0 || masked === ALL) {
      const run = endOfRun(bits, (bit >> 3) + 1, masked === 0 ? ALL : 0, count - end);
      if (masked !== 0) logits.fill(MASKED, at, end + run);
      at = end + run;
      continue;
    }
    for (; masked !== 0; masked &= masked - 1) logits[at + 31 - Math.clz32(masked & -masked)] = MASKED;
    at = end;
  }
}

/** Ids of whole bytes, from `byte` on, that are all `kind`. */
function endOfRun(bits: Uint8Array, byte: number, kind: number, most: number): number {
  let ids = 0;
  for (let at = byte; ids + 8 <= most && bits[at] === kind; at++) ids += 8;
  return ids;
}
