/** The library's panels are, byte for byte, those of the readable packer; what it refuses is named alike. */
import { describe, expect, it } from 'vitest';
import { floatsOf } from '../../../partitioner/checkpoint/float-widening.js';
import type { TensorSource } from '../../../partitioner/checkpoint/tensor-source.js';
import type { LinearItem, LinearPart } from '../../../partitioner/plan/plan-item.js';
import type { BlockFormat } from '../../../partitioner/quantise/block-quantise.js';
import { nativePacker } from '../../../partitioner/quantise/native-packer.js';
import { type PanelPacker, referencePacker } from '../../../partitioner/quantise/panel-packer.js';
import {
  PANEL_OUTPUTS,
  type PanelFormat,
  panelBytes,
  panelCount,
} from '../../../partitioner/quantise/panels.js';
import { PanelWriter } from '../../../partitioner/store/panel-writer.js';
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

  it.each([true, false])('8 bits by search, inputs weighed: %s', async (isWeighed) => {
    const panels = { bits: 8, blockSize: 32, zero: false, bfloat: false } as const;
    const format = { bits: 8, blockSize: 32, symmetric: true, search: true, half: true } as const;
    for (const inputs of [32, 100, 256]) {
      const rows = rowsOf(inputs);
      // Whole blocks of padding too, that count for nothing.
      const importance = isWeighed
        ? Float32Array.from({ length: inputs }, (_, k) =>
            k < 32 && inputs > 32 ? 0 : random.pick([0, 1, 1, 900]),
          )
        : null;
      const packed = (packer: PanelPacker) => packer.pack(rows, format, panels, inputs, place, importance);
      const wanted = await packed(referencePacker);
      expect(Buffer.compare(await packed(native!), wanted)).toBe(0);
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

  it('several panels from where their rows lie, among other columns', async () => {
    for (const panels of [QUANTISED[1]!, FLOATS[2]!]) {
      const [stride, first, inputs, count] = [200, 40, 128, 3 * PANEL_OUTPUTS];
      const matrix = Float32Array.from({ length: stride * count }, () => random.normal());
      const values = matrix.subarray(first);
      const packed = await native!.packMany!(
        { values, stride, count },
        formatOf(panels),
        panels,
        inputs,
        place,
        null,
      );
      const bytes = packed.length / 3;
      for (let panel = 0; panel < 3; panel++) {
        const rows = new Float32Array(PANEL_OUTPUTS * inputs);
        for (let row = 0; row < PANEL_OUTPUTS; row++) {
          const at = (panel * PANEL_OUTPUTS + row) * stride;
          rows.set(values.subarray(at, at + inputs), row * inputs);
        }
        const wanted = await pack(referencePacker, rows, panels, inputs);
        expect(Buffer.compare(packed.subarray(panel * bytes, (panel + 1) * bytes), wanted)).toBe(0);
      }
      matrix[first + 70 * stride + 5] = Number.NaN;
      await expect(
        native!.packMany!({ values, stride, count }, formatOf(panels), panels, inputs, place, null),
      ).rejects.toThrow('Tensor x has NaN in row 170, column 12');
    }
  });

  it('numbers of 16 bits as they are stored, and as floats: the same bytes', async () => {
    const [stride, first, inputs, count] = [200, 24, 129, 2 * PANEL_OUTPUTS];
    for (const type of ['float16', 'bfloat16'] as const) {
      // They have all sizes, subnormal ones and zeros too, but none that a float16 cannot hold.
      const [signs, most] = type === 'float16' ? [0x8000, 0x7a00] : [0x8000, 0x4600];
      const patterns = Uint16Array.from({ length: stride * count }, () => {
        const sign = random.next() < 0.5 ? signs : 0;
        return sign | random.integer(0, most);
      });
      const halves = { type, values: patterns.subarray(first) };
      const floats = floatsOf({ type, values: patterns }, first, patterns.length);
      for (const panels of [...QUANTISED, ...FLOATS]) {
        const [seen, wanted] = await Promise.all(
          [halves, floats].map((values) =>
            native!.packMany!({ values, stride, count }, formatOf(panels), panels, inputs, place, null),
          ),
        );
        expect(Buffer.compare(seen!, wanted!), `${type} ${JSON.stringify(panels)}`).toBe(0);
      }
      patterns[first + 40 * stride + 5] = 0x7fc0;
      await expect(
        native!.packMany!(
          { values: halves, stride, count },
          formatOf(FLOATS[1]!),
          FLOATS[1]!,
          inputs,
          place,
          null,
        ),
      ).rejects.toThrow('Tensor x has NaN in row 140, column 12');
    }
  });

  it('a linear of parts that end within panels is, on every rank, what collecting its rows gives', async () => {
    const panels = { bits: 4, blockSize: 32, zero: true, bfloat: false } as const;
    const format = { bits: 4, blockSize: 32, symmetric: false, search: true, half: true } as const;
    const columns = 128;
    const weights = new Map(
      [200, 72, 64].map((rows) => [
        `part-${rows}`,
        Float32Array.from({ length: rows * columns }, () => random.normal()),
      ]),
    );
    for (const split of ['column', 'row'] as const) {
      const parts = [...weights].map(([source, { length }]): LinearPart => {
        const rows = length / columns;
        const half = split === 'row' ? rows : rows / 2;
        const rowSlices = [0, split === 'row' ? 0 : half].map((start) => ({ start, count: half }));
        return { source, biasSource: null, rows, columns, factor: 1, rowSlices, rowsPerRank: half };
      });
      const outputs = parts.reduce((sum, { rowsPerRank }) => sum + rowsPerRank, 0);
      const inputs = split === 'row' ? columns / 2 : columns;
      const item = {
        ...{ kind: 'linear', name: 'linear', split, piece: null, parts, outputs, inputs, format, panels },
        ...{ padding: null, isCoded: false, pieces: 1, scales: null, zeroPoints: null, bias: null },
        columnSlices: [0, split === 'row' ? inputs : 0].map((start) => ({ start, count: inputs })),
        weight: { offset: 0, bytes: panelCount(outputs) * panelBytes(panels, inputs) },
      } as unknown as LinearItem;
      const source = {
        readFloat32: (name: string, start: number, end: number, into?: Float32Array) => {
          const values = weights.get(name)!.subarray(start * columns, end * columns);
          into!.set(values);
          return into!.subarray(0, values.length);
        },
      } as unknown as TensorSource;
      const written = async (packer: PanelPacker): Promise<Buffer[]> => {
        const files = [0, 1].map(() => Buffer.alloc(item.weight.bytes));
        const sinks = files.map((file) => ({
          write: (at: number, bytes: Uint8Array) => void file.set(bytes, at),
        }));
        const writer = new PanelWriter(source, sinks as never, null, packer);
        for await (const _ of writer.write([item], () => {}));
        await writer.finish();
        return files;
      };
      const [seen, wanted] = [await written(native!), await written(referencePacker)];
      for (const rank of [0, 1]) expect(Buffer.compare(seen[rank]!, wanted[rank]!), `rank ${rank}`).toBe(0);
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
