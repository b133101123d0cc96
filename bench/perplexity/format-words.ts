/**
 * A weight format as one word: `fp32`, `int8`, `int4-32`, `int4-128-zp-head8`.
 *
 * In      dtype[-block][-zp][-rtn][-head8][-qkv8][-first8][-last8][-down8][-a8][-a16]: zp with zero points, rtn scales of the largest weight
 *         and not searched, plain (at the end) not calibrated, a8 and a16 the bits of rows, the others what int4 leaves at 8 bits
 * Out     FormatOptions of the partitioner
 * Errors  an Error that names the word
 */
import type { FormatOptions } from '../../partitioner/quantise/weight-format.js';
import { DTYPES, EIGHT_BIT_GROUPS } from '../../proto/partition.js';

export function parseFormatWord(word: string): FormatOptions {
  const [first, ...rest] = word.split('-');
  const dtype = DTYPES.find((known) => known === first);
  if (dtype === undefined) throw new Error(`format ${word}: ${first} is not one of ${DTYPES.join(', ')}`);
  const options: FormatOptions = { dtype };
  for (const part of rest) {
    const group = EIGHT_BIT_GROUPS.find((known) => part === `${known}8`);
    if (/^\d+$/.test(part)) options.blockSize = Number(part);
    else if (part === 'zp') options.symmetric = false;
    else if (part === 'rtn') options.scales = 'nearest';
    else if (part === 'a8') options.activationBits = 8;
    else if (part === 'a16') options.activationBits = 16;
    else if (part === 'plain' && part === rest.at(-1)) continue;
    else if (group) options.eightBit = [...(options.eightBit ?? []), group];
    else throw new Error(`format ${word}: ${part} is not known`);
  }
  return options;
}
