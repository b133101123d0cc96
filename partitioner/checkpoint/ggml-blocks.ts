/**
 * ggml's blocks of weights as the numbers that they stand for: each type's bytes, and what takes a block apart.
 *
 * In      bytes of whole blocks
 * Out     float32, the same bits as ggml's own: what is multiplied is exact in float64, so that there is one rounding, as there
 * Limits  the types of GGML_TYPES; sizes are the caller's
 * Source  ggml's ggml-common.h (block_q4_0 …) and ggml-quants.c (dequantize_row_…); seen equal to the Python package `gguf`
 *         (test/unit/partitioner/checkpoint/ggml-blocks.test.ts)
 */
import assert from 'node:assert/strict';
import { roundToHalf } from '../quantise/half.js';
import { float16Values } from './float-widening.js';

/** Writes the weights of the block at `at` from `out[to]` on. */
type Decode = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

export interface GgmlType {
  name: string;
  /** Weights of a block. */
  weights: number;
  /** A block's. */
  bytes: number;
  decode: Decode;
  /** Absent: no format of ours holds its codes. */
  codes?: GgmlCodes;
}

/** A type whose 32 neighbours share a scale, as codes: weight = (code − zero point) · scale. */
export interface GgmlCodes {
  bits: 4 | 8;
  /** Zero points are any number, rounded to float16 as our kernels keep them (scales too, where they are products). */
  anyZero: boolean;
  /** Codes of one block, two a byte with 4 bits, into `packed` from `byte` on; a scale and a zero point for each 32 from `group` on. */
  read(
    bytes: Uint8Array,
    at: number,
    packed: Uint8Array,
    byte: number,
    into: GgmlGroups,
    group: number,
  ): void;
}

export interface GgmlGroups {
  scales: Float32Array;
  zeroPoints: Uint8Array | Float32Array;
}

const half = (bytes: Uint8Array, at: number): number => float16Values()[bytes[at]! | (bytes[at + 1]! << 8)]!;
const signed = (byte: number): number => (byte << 24) >> 24;

/** 32 weights, the first 16 in the low halves of 16 bytes. */
function nibbles(bytes: Uint8Array, at: number, weight: (code: number, index: number) => void): void {
  for (let index = 0; index < 16; index++) {
    weight(bytes[at + index]! & 15, index);
    weight(bytes[at + index]! >> 4, index + 16);
  }
}

const float32: Decode = (bytes, at, out, to) => {
  out[to] = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getFloat32(0, true);
};

const float16: Decode = (bytes, at, out, to) => {
  out[to] = half(bytes, at);
};

const bfloat16: Decode = (bytes, at, out, to) => {
  new Uint32Array(out.buffer, out.byteOffset, out.length)[to] = (bytes[at]! | (bytes[at + 1]! << 8)) << 16;
};

const q4_0: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  nibbles(bytes, at + 2, (code, index) => {
    out[to + index] = scale * (code - 8);
  });
};

const q4_1: Decode = (bytes, at, out, to) => {
  const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
  nibbles(bytes, at + 4, (code, index) => {
    out[to + index] = scale * code + least;
  });
};

/** The fifth bit of each weight stands in four bytes before the others. */
const fifthBit = (bytes: Uint8Array, at: number, index: number): number =>
  ((bytes[at + (index >> 3)]! >> (index & 7)) & 1) << 4;

const q5_0: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  nibbles(bytes, at + 6, (code, index) => {
    out[to + index] = scale * ((code | fifthBit(bytes, at + 2, index)) - 16);
  });
};

const q5_1: Decode = (bytes, at, out, to) => {
  const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
  nibbles(bytes, at + 8, (code, index) => {
    out[to + index] = scale * (code | fifthBit(bytes, at + 4, index)) + least;
  });
};

const q8_0: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  for (let index = 0; index < 32; index++) out[to + index] = scale * signed(bytes[at + 2 + index]!);
};

/** Of 256 weights: two bits each, 32 bytes hold 128 of them. */
const twoBits = (bytes: Uint8Array, at: number, index: number): number =>
  (bytes[at + ((index >> 7) << 5) + (index & 31)]! >> (2 * ((index >> 5) & 3))) & 3;

const q2_k: Decode = (bytes, at, out, to) => {
  const [scale, least] = [half(bytes, at + 80), half(bytes, at + 82)];
  for (let index = 0; index < 256; index++) {
    const both = bytes[at + (index >> 4)]!;
    out[to + index] = scale * (both & 15) * twoBits(bytes, at + 16, index) - least * (both >> 4);
  }
};

const q3_k: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at + 108);
  for (let group = 0; group < 16; group++) {
    const low = (bytes[at + 96 + (group & 7)]! >> (4 * (group >> 3))) & 15;
    const high = (bytes[at + 104 + (group & 3)]! >> (2 * (group >> 2))) & 3;
    const ofGroup = scale * ((low | (high << 4)) - 32);
    for (let index = 16 * group; index < 16 * group + 16; index++) {
      const isHigh = (bytes[at + (index & 31)]! >> (index >> 5)) & 1;
      out[to + index] = ofGroup * (twoBits(bytes, at + 32, index) - (isHigh ? 0 : 4));
    }
  }
};

/** Six bits of scale and six of offset for each of eight groups, in twelve bytes. */
export function scaleAndOffset(bytes: Uint8Array, at: number, group: number): [number, number] {
  if (group < 4) return [bytes[at + group]! & 63, bytes[at + 4 + group]! & 63];
  const low = bytes[at + 4 + group]!;
  return [(low & 15) | ((bytes[at + group - 4]! >> 6) << 4), (low >> 4) | ((bytes[at + group]! >> 6) << 4)];
}

const q4_k: Decode = (bytes, at, out, to) => {
  const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
  for (let group = 0; group < 8; group++) {
    const [steps, offset] = scaleAndOffset(bytes, at + 4, group);
    const from = at + 16 + 32 * (group >> 1);
    for (let index = 0; index < 32; index++) {
      const code = (bytes[from + index]! >> (4 * (group & 1))) & 15;
      out[to + 32 * group + index] = scale * steps * code - least * offset;
    }
  }
};

const q5_k: Decode = (bytes, at, out, to) => {
  const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
  for (let group = 0; group < 8; group++) {
    const [steps, offset] = scaleAndOffset(bytes, at + 4, group);
    const from = at + 48 + 32 * (group >> 1);
    for (let index = 0; index < 32; index++) {
      const low = (bytes[from + index]! >> (4 * (group & 1))) & 15;
      const high = (bytes[at + 16 + index]! >> group) & 1;
      out[to + 32 * group + index] = scale * steps * (low | (high << 4)) - least * offset;
    }
  }
};

const q6_k: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at + 208);
  for (let index = 0; index < 256; index++) {
    const low = (bytes[at + ((index >> 7) << 6) + (index & 63)]! >> (4 * ((index >> 6) & 1))) & 15;
    const code = (low | (twoBits(bytes, at + 128, index) << 4)) - 32;
    out[to + index] = scale * signed(bytes[at + 192 + (index >> 4)]!) * code;
  }
};

/** What a code of the non-linear types means. */
const NON_LINEAR = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113] as const;

const iq4_nl: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  nibbles(bytes, at + 2, (code, index) => {
    out[to + index] = scale * NON_LINEAR[code]!;
  });
};

const iq4_xs: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  const high = bytes[at + 2]! | (bytes[at + 3]! << 8);
  for (let group = 0; group < 8; group++) {
    const low = (bytes[at + 4 + (group >> 1)]! >> (4 * (group & 1))) & 15;
    const ofGroup = scale * ((low | (((high >> (2 * group)) & 3) << 4)) - 32);
    nibbles(bytes, at + 8 + 16 * group, (code, index) => {
      out[to + 32 * group + index] = ofGroup * NON_LINEAR[code]!;
    });
  }
};

/** Twice what a code of four bits means: sign, two bits of exponent, one of mantissa. */
const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12] as const;

const mxfp4: Decode = (bytes, at, out, to) => {
  // A power of two, 127 above its exponent, and E2M1 is twice itself.
  const scale = 2 ** (bytes[at]! - 128);
  nibbles(bytes, at + 1, (code, index) => {
    out[to + index] = scale * E2M1[code]!;
  });
};

/** Sixteen bytes of halves of a block of 32 as neighbours. */
function packHalves(bytes: Uint8Array, at: number, packed: Uint8Array, byte: number): void {
  for (let pair = 0; pair < 8; pair++) {
    const [even, odd] = [bytes[at + 2 * pair]!, bytes[at + 2 * pair + 1]!];
    packed[byte + pair] = (even & 15) | ((odd & 15) << 4);
    packed[byte + 8 + pair] = (even >> 4) | (odd & 0xf0);
  }
}

/** scale · code + offset; where all codes are alike (or float16 holds no such zero point) the offset itself is the step. */
function setGroup(into: GgmlGroups, group: number, scale: number, offset: number): boolean {
  const step = roundToHalf(scale);
  const zero = step === 0 ? Number.NaN : roundToHalf(-offset / step);
  const isHeld = Number.isFinite(zero);
  into.scales[group] = isHeld ? step : roundToHalf(-offset);
  into.zeroPoints[group] = isHeld ? zero : 1;
  return isHeld;
}

const codes4_0: GgmlCodes = {
  bits: 4,
  anyZero: false,
  read(bytes, at, packed, byte, into, group) {
    into.scales[group] = half(bytes, at);
    into.zeroPoints[group] = 8;
    packHalves(bytes, at + 2, packed, byte);
  },
};

const codes4_1: GgmlCodes = {
  bits: 4,
  anyZero: true,
  read(bytes, at, packed, byte, into, group) {
    if (setGroup(into, group, half(bytes, at), half(bytes, at + 2))) packHalves(bytes, at + 4, packed, byte);
  },
};

const codes4_k: GgmlCodes = {
  bits: 4,
  anyZero: true,
  read(bytes, at, packed, byte, into, first) {
    const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
    for (let group = 0; group < 8; group++) {
      const [steps, offset] = scaleAndOffset(bytes, at + 4, group);
      if (!setGroup(into, first + group, scale * steps, -least * offset)) continue;
      const from = at + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let pair = 0; pair < 16; pair++) {
        const even = (bytes[from + 2 * pair]! >> shift) & 15;
        const odd = (bytes[from + 2 * pair + 1]! >> shift) & 15;
        packed[byte + 16 * group + pair] = even | (odd << 4);
      }
    }
  },
};

const codes8_0: GgmlCodes = {
  bits: 8,
  anyZero: false,
  read(bytes, at, packed, byte, into, group) {
    into.scales[group] = half(bytes, at);
    into.zeroPoints[group] = 128;
    for (let index = 0; index < 32; index++) packed[byte + index] = bytes[at + 2 + index]! ^ 0x80;
  },
};

/** By ggml's number of the type. */
const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, { name: 'F32', weights: 1, bytes: 4, decode: float32 }],
  [1, { name: 'F16', weights: 1, bytes: 2, decode: float16 }],
  [2, { name: 'Q4_0', weights: 32, bytes: 18, decode: q4_0, codes: codes4_0 }],
  [3, { name: 'Q4_1', weights: 32, bytes: 20, decode: q4_1, codes: codes4_1 }],
  [6, { name: 'Q5_0', weights: 32, bytes: 22, decode: q5_0 }],
  [7, { name: 'Q5_1', weights: 32, bytes: 24, decode: q5_1 }],
  [8, { name: 'Q8_0', weights: 32, bytes: 34, decode: q8_0, codes: codes8_0 }],
  [10, { name: 'Q2_K', weights: 256, bytes: 84, decode: q2_k }],
  [11, { name: 'Q3_K', weights: 256, bytes: 110, decode: q3_k }],
  [12, { name: 'Q4_K', weights: 256, bytes: 144, decode: q4_k, codes: codes4_k }],
  [13, { name: 'Q5_K', weights: 256, bytes: 176, decode: q5_k }],
  [14, { name: 'Q6_K', weights: 256, bytes: 210, decode: q6_k }],
  [20, { name: 'IQ4_NL', weights: 32, bytes: 18, decode: iq4_nl }],
  [23, { name: 'IQ4_XS', weights: 256, bytes: 136, decode: iq4_xs }],
  [30, { name: 'BF16', weights: 1, bytes: 2, decode: bfloat16 }],
  [39, { name: 'MXFP4', weights: 32, bytes: 17, decode: mxfp4 }],
]);

export const ggmlType = (number: number): GgmlType | undefined => GGML_TYPES.get(number);
export const ggmlTypeNames = (): string => [...GGML_TYPES.values()].map(({ name }) => name).join(', ');

/** @param out as many weights as the bytes have */
export function decodeBlocks(type: GgmlType, bytes: Uint8Array, out: Float32Array): void {
  const blocks = bytes.length / type.bytes;
  assert.equal(out.length, blocks * type.weights, `weights of ${type.name}`);
  for (let block = 0; block < blocks; block++) {
    type.decode(bytes, block * type.bytes, out, block * type.weights);
  }
}
