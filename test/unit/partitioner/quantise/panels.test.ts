/** partitioner/quantise/panels.ts: what is packed is unpacked again, by a reading of each byte's meaning; sizes; known bytes. */
import { describe, expect, it } from 'vitest';
import { widened } from '../../../../partitioner/checkpoint/float-widening.js';
import { dequantiseRows, quantiseRows } from '../../../../partitioner/quantise/block-quantise.js';
import { bfloatBits, halfBits, roundToHalf } from '../../../../partitioner/quantise/half.js';
import {
  PANEL_OUTPUTS,
  type PanelFormat,
  packFloatPanel,
  packPanel,
  panelBytes,
  unpackFloatPanel,
  unpackPanel,
} from '../../../../partitioner/quantise/panels.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const random = seededRandom(testSeed);
const weights = (inputs: number): Float32Array =>
  Float32Array.from({ length: PANEL_OUTPUTS * inputs }, () => random.next() - 0.5);

const FORMATS = ([4, 8] as const).flatMap((bits) =>
  [32, 64, 128, 256].flatMap((blockSize) => [false, true].map((zero) => ({ bits, blockSize, zero }))),
);

describe('a panel', () => {
  it.each(FORMATS)(
    'of $bits bits in blocks of $blockSize, zero points $zero, is unpacked as it was',
    (format) => {
      const panels: PanelFormat = { ...format, bfloat: false };
      for (const inputs of [format.blockSize, 3 * format.blockSize, 2 * format.blockSize + 40]) {
        const rows = quantiseRows(weights(inputs), PANEL_OUTPUTS, inputs, {
          ...{
            bits: format.bits,
            blockSize: format.blockSize,
            symmetric: !format.zero,
            search: true,
            half: true,
          },
        });
        const panel = packPanel(rows, panels, inputs);
        expect(panel.length).toBe(panelBytes(panels, inputs));
        const again = unpackPanel(panel, panels, inputs);
        expect(Buffer.compare(again.packed, rows.packed)).toBe(0);
        expect(again.scales).toEqual(rows.scales);
        expect(again.zeroPoints && [...again.zeroPoints]).toEqual(rows.zeroPoints && [...rows.zeroPoints]);
      }
    },
  );

  it('has a record a block: 32 scales, then lines of 16 outputs', () => {
    const values = new Float32Array(PANEL_OUTPUTS * 32);
    // Output 17 is 0.5 · (code − 8) with codes 0, 1, …, 15, 0, 1, …
    for (let input = 0; input < 32; input++) values[17 * 32 + input] = 0.5 * ((input % 16) - 8);
    const format = { bits: 4, blockSize: 32, symmetric: true, search: false, half: true } as const;
    const rows = quantiseRows(values, PANEL_OUTPUTS, 32, format);
    const panel = packPanel(rows, { bits: 4, blockSize: 32, zero: false, bfloat: false }, 32);
    expect(panel.length).toBe(64 + 512);
    expect([...panel.subarray(0, 64)].flatMap((byte, at) => (byte === 0 ? [] : [[at, byte]]))).toEqual([
      [35, 0x38],
    ]);
    const line = (index: number): number[] => [...panel.subarray(64 + index * 64, 64 + (index + 1) * 64)];
    expect(line(0)).toEqual(new Array(64).fill(0x88));
    expect(line(1).slice(4, 8)).toEqual([0x40, 0x51, 0x62, 0x73]);
    expect(line(3).slice(4, 8)).toEqual([0xc8, 0xd9, 0xea, 0xfb]);
  });

  it.each([
    { bits: 32, bfloat: false },
    { bits: 16, bfloat: false },
    { bits: 16, bfloat: true },
  ] as const)('of floats, %j, is inputs × 32', ({ bits, bfloat }) => {
    const panels: PanelFormat = { bits, bfloat, blockSize: 0, zero: false };
    const rows = weights(11);
    const again = unpackFloatPanel(packFloatPanel(rows, panels, 11), panels, 11);
    const held = (value: number): number =>
      bits === 32
        ? value
        : bfloat
          ? widened(Uint16Array.of(bfloatBits(value)), true)[0]!
          : roundToHalf(value);
    expect(again).toEqual(rows.map(held));
  });
});

describe('float16 and bfloat16', () => {
  it('hold every number of theirs, and the nearest of two otherwise, ties to even', () => {
    const all = Uint16Array.from({ length: 0x7c00 }, (_, index) => index);
    const values = widened(all, false);
    values.forEach((value, index) => {
      if (halfBits(value) !== index) throw new Error(`${value} has bits ${halfBits(value)}`);
      const next = values[index + 1];
      if (next === undefined) return;
      const middle = halfBits((value + next) / 2);
      if (middle !== index + (index % 2)) throw new Error(`between ${value} and ${next}: ${middle}`);
    });
    expect([65_519, 65_520, -1e9, -0].map(halfBits)).toEqual([0x7bff, 0x7c00, 0xfc00, 0x8000]);
    expect([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -2].map(bfloatBits)).toEqual([0x3f80, 0x3f80, 0x3f82, 0xc000]);
  });

  it('scales make weights no worse than a step at the ends of the range', () => {
    const values = weights(256);
    const format = { bits: 8, blockSize: 32, symmetric: true, search: false, half: true } as const;
    const rows = quantiseRows(values, PANEL_OUTPUTS, 256, format);
    const seen = dequantiseRows(rows, PANEL_OUTPUTS, 256, format);
    seen.forEach((value, index) => {
      const scale = Math.abs(rows.scales[Math.floor(index / 32)]!);
      expect(Math.abs(value - values[index]!)).toBeLessThanOrEqual(scale * 1.07);
    });
  });
});
