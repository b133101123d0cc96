/** The library's panels are, byte for byte, those of the readable packer; what it refuses is named alike. */
import { describe, expect, it } from 'vitest';
import type { BlockFormat } from '../../../partitioner/quantise/block-quantise.js';
import { nativePacker } from '../../../partitioner/quantise/native-packer.js';
import { type PanelPacker, referencePacker } from '../../../partitioner/quantise/panel-packer.js';
import { PANEL_OUTPUTS, type PanelFormat } from '../../../partitioner/quantise/panels.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';

const place = (output: number) => ({ name: 'x', row: 100 + output, column: 7 });
const random = seededRandom(testSeed);

const QUANTISED = ([4, 8] as const).flatMap((bits) =>
  [32, 64, 256].flatMap((blockSize) =>
    [false, true].map((zero) => ({ bits, blockSize, zero, bfloat: false })),
  ),
);
const FLOATS: PanelFormat[] = [
  { bits: 32, blockSize: 0, zero: false, bfloat: false },
  { bits: 16, blockSize: 0, zero: false, bfloat: false },
  { bits: 16, blockSize: 0, zero: false, bfloat: true },
];

function formatOf({ bits, blockSize, zero }: PanelFormat): BlockFormat | null {
  if (bits !== 4 && bits !== 8) return null;
  return { bits, blockSize, symmetric: !zero, search: false, half: true };
}

/** Rows of many magnitudes, some of them zero. */
const rowsOf = (inputs: number): Float32Array => {
  const size = Array.from({ length: PANEL_OUTPUTS }, () => random.pick([1, 1, 1e-3, 1e-7, 0]));
  return Float32Array.from(
    { length: PANEL_OUTPUTS * inputs },
    (_, index) => random.normal() * size[Math.floor(index / inputs)]!,
  );
};

const native = nativePacker();
describe.runIf(native !== null)(`packing by the library (seed ${testSeed})`, () => {
  const pack = (packer: PanelPacker, rows: Float32Array, panels: PanelFormat, inputs: number) =>
    packer.pack(rows, formatOf(panels), panels, inputs, place, null);

  it.each([...QUANTISED, ...FLOATS])('%j', async (panels) => {
    for (const inputs of [32, 96, 100, 256, 1000]) {
      const rows = rowsOf(inputs);
      const wanted = await pack(referencePacker, rows, panels, inputs);
      expect(Buffer.compare(await pack(native!, rows, panels, inputs), wanted)).toBe(0);
    }
  });

  it('many at once, each with the bytes that it has alone', async () => {
    const panels = { bits: 4, blockSize: 32, zero: true, bfloat: false } as const;
    const format = { bits: 4, blockSize: 32, symmetric: false, search: true, half: true } as const;
    const all = Array.from({ length: 12 }, (_, index) => rowsOf(32 * (1 + index)));
    const pack = (packer: PanelPacker, rows: Float32Array) =>
      packer.pack(rows, format, panels, rows.length / PANEL_OUTPUTS, place, null);
    const seen = await Promise.all(all.map((rows) => pack(native!, rows)));
    for (const [index, rows] of all.entries()) {
      expect(Buffer.compare(seen[index]!, await pack(referencePacker, rows))).toBe(0);
    }
  });

  it.each([
    [Number.NaN, QUANTISED[0]!, 'Tensor x has NaN in row 103, column 12'],
    [Number.POSITIVE_INFINITY, QUANTISED[9]!, 'Tensor x has Infinity in row 103, column 12'],
    [7e4, FLOATS[1]!, 'Tensor x has 70000 in row 103, column 12, beyond what a float16 holds'],
  ])('names %s in %j', async (value, panels, message) => {
    const rows = rowsOf(64);
    rows[3 * 64 + 5] = value;
    for (const packer of [referencePacker, native!]) {
      await expect((async () => pack(packer, rows, panels, 64))()).rejects.toThrow(message);
    }
  });
});
