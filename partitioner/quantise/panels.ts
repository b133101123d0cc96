/**
 * The layout that our own kernels read weights in (`shardserve:Linear`), packed and unpacked: the readable reference of both.
 *
 * A weight [outputs, inputs] is panels of 32 outputs, one after another; outputs are padded to whole panels, inputs to whole blocks,
 * with weights of value 0.
 *   quantised   a panel is one record a block of inputs:
 *               32 float16 scales; with zero points 32 float16 of them, in units of codes; then the codes, two lines of 64 bytes
 *               (outputs 0 … 15, then 16 … 31) for each 8 inputs at 4 bits, for each 4 inputs at 8 bits.
 *               4 bits: byte 4·c + j has input j of output c in its low half, input 4 + j in its high half; unsigned, value = scale · (code − zero),
 *               zero = 8 where there are no zero points. 8 bits: byte 4·c + j is input j of output c; signed, zero = 0 likewise
 *   floats      a panel is [inputs][32] of float16, bfloat16 or float32
 *
 * In      rows quantised in MatMulNBits' layout (block-quantise.ts), or float32
 * Out     bytes of a panel; and back
 * Limits  blocks of 32, 64, 128 or 256; scales within float16, as a format with half scales makes them
 * Errors  none: sizes are asserted
 */
import assert from 'node:assert/strict';
import type { TensorEntry } from '../../proto/manifest.js';
import { widened } from '../checkpoint/float-widening.js';
import { blockBytes, blocksPerRow, type QuantisedRows } from './block-quantise.js';
import { bfloatBits, halfBits } from './half.js';

/** How the panels of a linear are made; blockSize 0: floats. */
export type PanelFormat = Omit<NonNullable<TensorEntry['panels']>, 'inputs' | 'outputs' | 'pieces'>;

export const PANEL_OUTPUTS = 32;
export const PANEL_BLOCK_SIZES: readonly number[] = [32, 64, 128, 256];

const LINE_BYTES = 64;
/** Of 32 scales, or zero points. */
const HALVES_BYTES = 2 * PANEL_OUTPUTS;

export const panelCount = (outputs: number): number => Math.ceil(outputs / PANEL_OUTPUTS);

/** Bytes of one panel. */
export function panelBytes({ bits, blockSize, zero }: PanelFormat, inputs: number): number {
  if (blockSize === 0) return (inputs * PANEL_OUTPUTS * bits) / 8;
  const codes = (blockSize * PANEL_OUTPUTS * bits) / 8;
  return blocksPerRow(inputs, blockSize) * (HALVES_BYTES * (zero ? 2 : 1) + codes);
}

/**
 * @param rows of 32 outputs
 * @returns one panel
 */
export function packPanel(rows: QuantisedRows, format: PanelFormat, inputs: number): Uint8Array {
  const { bits, blockSize, zero } = format;
  const blocks = blocksPerRow(inputs, blockSize);
  const rowBytes = blocks * quantisedBytes(format);
  assert.equal(rows.packed.length, PANEL_OUTPUTS * rowBytes, 'bytes of a panel');
  const panel = new Uint8Array(panelBytes(format, inputs));
  const halves = new DataView(panel.buffer);
  const middle = bits === 4 ? 0 : 128;
  for (let block = 0, at = 0; block < blocks; block++) {
    for (let output = 0; output < PANEL_OUTPUTS; output++) {
      const index = output * blocks + block;
      halves.setUint16(at + 2 * output, halfBits(rows.scales[index]!), true);
      if (!zero) continue;
      const point = rows.zeroPoints![index]! - middle;
      halves.setUint16(at + HALVES_BYTES + 2 * output, halfBits(point), true);
    }
    at += HALVES_BYTES * (zero ? 2 : 1);
    for (let output = 0; output < PANEL_OUTPUTS; output++) {
      const from = output * rowBytes + block * quantisedBytes(format);
      const codes = rows.packed.subarray(from, from + quantisedBytes(format));
      const into = at + (output >> 4) * LINE_BYTES + 4 * (output & 15);
      if (bits === 4) packNibbles(codes, panel, into);
      else packBytes(codes, panel, into);
    }
    at += quantisedBytes(format) * PANEL_OUTPUTS;
  }
  return panel;
}

/** One block of one output. */
function quantisedBytes({ bits, blockSize }: PanelFormat): number {
  assert(bits === 4 || bits === 8, 'floats have no blocks');
  return blockBytes(bits, blockSize);
}

/** Two neighbours a byte become inputs j and j + 4 a byte. */
function packNibbles(codes: Uint8Array, panel: Uint8Array, into: number): void {
  for (let from = 0, at = into; from < codes.length; from += 4, at += 2 * LINE_BYTES) {
    const [a, b, c, d] = [codes[from]!, codes[from + 1]!, codes[from + 2]!, codes[from + 3]!];
    panel[at] = (a & 15) | ((c & 15) << 4);
    panel[at + 1] = (a >> 4) | (c & 0xf0);
    panel[at + 2] = (b & 15) | ((d & 15) << 4);
    panel[at + 3] = (b >> 4) | (d & 0xf0);
  }
}

/** Unsigned codes around 128 become signed ones. */
function packBytes(codes: Uint8Array, panel: Uint8Array, into: number): void {
  for (let from = 0, at = into; from < codes.length; from += 4, at += 2 * LINE_BYTES) {
    for (let j = 0; j < 4; j++) panel[at + j] = codes[from + j]! ^ 0x80;
  }
}

/** @param rows float32 [32, inputs]. @returns one panel of floats */
export function packFloatPanel(
  rows: Float32Array,
  { bits, bfloat }: PanelFormat,
  inputs: number,
): Uint8Array {
  assert.equal(rows.length, PANEL_OUTPUTS * inputs, 'floats of a panel');
  const panel = bits === 32 ? new Float32Array(rows.length) : new Uint16Array(rows.length);
  const convert = bits === 32 ? (value: number) => value : bfloat ? bfloatBits : halfBits;
  for (let output = 0; output < PANEL_OUTPUTS; output++) {
    const from = output * inputs;
    for (let input = 0, at = output; input < inputs; input++, at += PANEL_OUTPUTS) {
      panel[at] = convert(rows[from + input]!);
    }
  }
  return new Uint8Array(panel.buffer);
}

/**
 * Written apart from the packing above: from the meaning of each byte.
 *
 * @param panel bytes of one panel
 * @returns its 32 outputs in MatMulNBits' layout
 */
export function unpackPanel(panel: Uint8Array, format: PanelFormat, inputs: number): QuantisedRows {
  const { bits, blockSize, zero } = format;
  const blocks = blocksPerRow(inputs, blockSize);
  const recordBytes = panel.length / blocks;
  const rowBytes = blocks * quantisedBytes(format);
  const packed = new Uint8Array(PANEL_OUTPUTS * rowBytes);
  const scales = new Float32Array(PANEL_OUTPUTS * blocks);
  const zeroPoints = zero ? new Float32Array(PANEL_OUTPUTS * blocks) : null;
  for (let block = 0; block < blocks; block++) {
    const record = panel.slice(block * recordBytes, (block + 1) * recordBytes);
    const header = widened(new Uint16Array(record.buffer, 0, PANEL_OUTPUTS * (zero ? 2 : 1)), false);
    const codes = record.subarray(header.length * 2);
    for (let output = 0; output < PANEL_OUTPUTS; output++) {
      scales[output * blocks + block] = header[output]!;
      if (zeroPoints) {
        zeroPoints[output * blocks + block] = header[PANEL_OUTPUTS + output]! + (bits === 8 ? 128 : 0);
      }
      for (let input = 0; input < blockSize; input++) {
        const code = codeOf(codes, bits, output, input);
        const place = output * rowBytes + Math.floor(((block * blockSize + input) * bits) / 8);
        packed[place]! |= bits === 4 && input % 2 === 1 ? code << 4 : code;
      }
    }
  }
  return { packed, scales, zeroPoints };
}

/** Unsigned; with 8 bits around 128. */
function codeOf(codes: Uint8Array, bits: PanelFormat['bits'], output: number, input: number): number {
  const together = bits === 4 ? 8 : 4;
  const line = 2 * Math.floor(input / together) + Math.floor(output / 16);
  const inLine = input % together;
  const byte = codes[line * LINE_BYTES + 4 * (output % 16) + (inLine % 4)]!;
  if (bits === 8) return (byte + 128) % 256;
  return inLine < 4 ? byte % 16 : byte >> 4;
}

/** @returns float32 [32, inputs] of one panel of floats */
export function unpackFloatPanel(
  panel: Uint8Array,
  { bits, bfloat }: PanelFormat,
  inputs: number,
): Float32Array {
  const bytes = panel.slice();
  const stored =
    bits === 32 ? new Float32Array(bytes.buffer) : widened(new Uint16Array(bytes.buffer), bfloat);
  return Float32Array.from(
    { length: PANEL_OUTPUTS * inputs },
    (_, index) => stored[(index % inputs) * PANEL_OUTPUTS + Math.floor(index / inputs)]!,
  );
}
