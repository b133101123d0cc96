/** Random panels of weights and what they mean, in doubles: written from the layout's description, not from the kernels. */
import { widenBfloat16, widenFloat16 } from '../../partitioner/checkpoint/float-widening.js';
import type { SeededRandom } from '../fixtures/seeded-random.js';

export interface PanelFormat {
  bits: 4 | 8 | 16 | 32;
  /** 0: floats. */
  block: number;
  zero: boolean;
  bfloat: boolean;
  /** Rows that meet quantised weights have 16 bits, not 8. */
  wide?: boolean;
}

export interface PanelLinear extends PanelFormat {
  inputs: number;
  outputs: number;
  pieces: number;
  panels: Uint8Array;
}

const PANEL = 32;
const STEP = 32;

const widen = (halves: Uint16Array, bfloat: boolean): Float32Array => {
  const values = new Float32Array(halves.length);
  const bits = new Uint32Array(values.buffer);
  if (bfloat) widenBfloat16(halves, bits);
  else widenFloat16(halves, bits);
  return values;
};

const recordBytes = ({ bits, block, zero }: PanelFormat): number =>
  64 + (zero ? 64 : 0) + (block * PANEL * bits) / 8;

const panelBytes = (format: PanelFormat, inputs: number): number =>
  format.block === 0
    ? (inputs * PANEL * format.bits) / 8
    : Math.ceil(inputs / format.block) * recordBytes(format);

/** A half between 2^(from-15) and 2^(to-15), perhaps negative. */
const randomHalf = (random: SeededRandom, from: number, to: number): number =>
  (random.integer(0, 1) << 15) | (random.integer(from, to) << 10) | random.integer(0, 1023);

/** Any codes, also those that padding would not have: their outputs and inputs must not count. */
export function randomLinear(
  random: SeededRandom,
  format: PanelFormat,
  inputs: number,
  outputs: number,
  pieces = 1,
): PanelLinear {
  const count = Math.ceil(outputs / PANEL);
  const panels = new Uint8Array(count * panelBytes(format, inputs));
  if (format.bits === 32) {
    new Float32Array(panels.buffer).forEach((_, index, all) => {
      all[index] = random.normal();
    });
  } else if (format.bits === 16) {
    const halves = new Uint16Array(panels.buffer);
    const bfloat = (): number => (random.integer(0, 1) << 15) | random.integer(0x3c00, 0x3fff);
    for (let at = 0; at < halves.length; at++)
      halves[at] = format.bfloat ? bfloat() : randomHalf(random, 0, 15);
  } else {
    for (let at = 0; at < panels.length; at++) panels[at] = random.integer(0, 255);
    const halves = new Uint16Array(panels.buffer);
    for (let record = 0; record < panels.length / recordBytes(format); record++) {
      const at = (record * recordBytes(format)) / 2;
      for (let c = 0; c < PANEL; c++) {
        halves[at + c] = randomHalf(random, 0, 12);
        if (format.zero) halves[at + PANEL + c] = randomHalf(random, 0, 18);
      }
    }
  }
  return { ...format, inputs, outputs, pieces, panels };
}

/** The weight as doubles, [outputs, inputs]. */
export function meaning(linear: PanelLinear): Float64Array {
  const { bits, block, zero, bfloat, inputs, outputs, panels } = linear;
  const weight = new Float64Array(outputs * inputs);
  const size = panelBytes(linear, inputs);
  const floats =
    block !== 0
      ? null
      : bits === 32
        ? new Float32Array(panels.buffer)
        : widen(new Uint16Array(panels.buffer), bfloat);
  const halves = block === 0 ? null : widen(new Uint16Array(panels.buffer), false);
  for (let n = 0; n < outputs; n++) {
    const start = Math.floor(n / PANEL) * size;
    const c = n % PANEL;
    for (let k = 0; k < inputs; k++) {
      if (floats) {
        weight[n * inputs + k] = floats[(start / size) * inputs * PANEL + k * PANEL + c]!;
        continue;
      }
      const record = start + Math.floor(k / block) * recordBytes(linear);
      const codes = record + (zero ? 128 : 64);
      const within = k % block;
      const scale = halves![record / 2 + c]!;
      let code: number;
      let point = 0;
      if (bits === 4) {
        const byte = panels[codes + Math.floor(within / 8) * 128 + 4 * c + (within % 4)]!;
        code = within % 8 < 4 ? byte & 15 : byte >> 4;
        point = 8;
      } else {
        code = (panels[codes + Math.floor(within / 4) * 128 + 4 * c + (within % 4)]! << 24) >> 24;
      }
      if (zero) point = halves![record / 2 + PANEL + c]!;
      weight[n * inputs + k] = scale * (code - point);
    }
  }
  return weight;
}

/** Rows as the products see them: for quantised weights rounded to 8 or 16 bits, 32 values a scale; in floats, or a code would differ now and then. */
export function roundedRows(
  rows: Float32Array,
  inputs: number,
  bits: 8 | 16 | null,
): Float64Array | Float32Array {
  if (bits === null) return rows;
  // 32,512 is 127 · 256: the first of two halves of a code is a code of 8 bits.
  const most = bits === 8 ? 127 : 32_512;
  const rounded = new Float64Array(rows.length);
  for (let row = 0; row < rows.length; row += inputs) {
    for (let first = 0; first < inputs; first += STEP) {
      const values = rows.subarray(row + first, row + Math.min(inputs, first + STEP));
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      for (let k = 0; k < values.length; k++) {
        const nearest =
          largest < 1e-30 ? 0 : roundEven(Math.fround(values[k]! * Math.fround(most / largest)));
        // -128 is no second half.
        const code = bits === 16 && (nearest & 255) === 128 ? nearest + 1 : nearest;
        rounded[row + first + k] = Number.isFinite(largest) ? (code * largest) / most : Number.NaN;
      }
    }
  }
  return rounded;
}

function roundEven(value: number): number {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** @returns the product in doubles, and of each output the sum of magnitudes, which rounding errors are relative to */
export function product(
  linear: PanelLinear,
  rows: Float32Array,
  bias: Float32Array | null,
): { sums: Float64Array; magnitudes: Float64Array } {
  const { inputs, outputs } = linear;
  const weight = meaning(linear);
  const x = roundedRows(rows, inputs, linear.block === 0 ? null : linear.wide ? 16 : 8);
  const count = rows.length / inputs;
  const sums = new Float64Array(count * outputs);
  const magnitudes = new Float64Array(count * outputs);
  for (let row = 0; row < count; row++) {
    for (let n = 0; n < outputs; n++) {
      let sum = bias?.[n] ?? 0;
      let magnitude = Math.abs(sum);
      for (let k = 0; k < inputs; k++) {
        const term = x[row * inputs + k]! * weight[n * inputs + k]!;
        sum += term;
        magnitude += Math.abs(term);
      }
      sums[row * outputs + n] = sum;
      magnitudes[row * outputs + n] = magnitude;
    }
  }
  return { sums, magnitudes };
}
