/** ss_quantise: the bytes of the readable packers, of searches one value after the other, and refusals that say where. */
import koffi from 'koffi';
import { expect, it } from 'vitest';
import { widened } from '../../../partitioner/checkpoint/float-widening.js';
import { quantiseRows } from '../../../partitioner/quantise/block-quantise.js';
import { bfloatBits, halfBits } from '../../../partitioner/quantise/half.js';
import { packFloatPanel, packPanel, panelBytes } from '../../../partitioner/quantise/panels.js';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { type SeededRandom, seededRandom, testSeed } from '../../fixtures/seeded-random.js';

const quantiseNative = koffi
  .load(kernelLibrary()!)
  .func('ss_quantise', 'int32_t', [
    ...['const void *', 'int32_t', 'int64_t', 'int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t'],
    ...['const float *', '_Out_ uint8_t *', 'int64_t', 'int64_t', '_Out_ int64_t *'],
  ]) as (...args: readonly unknown[]) => number;

const SEARCH = 4;
const BAD_NUMBER = 5;

interface Panels {
  bits: 4 | 8 | 16 | 32;
  block: number;
  zero: boolean;
  bfloat?: boolean;
}

const formatOf = ({ bits, block, zero, bfloat = false }: Panels) =>
  ({ bits, blockSize: block, zero, bfloat }) as const;

function quantise(
  rows: Float32Array | Uint16Array,
  type: number,
  inputs: number,
  panels: Panels,
  more: { search?: boolean; importance?: Float32Array } = {},
): { code: number; bad: bigint; bytes: Uint8Array } {
  const outputs = rows.length / inputs;
  const count = Math.ceil(outputs / 32);
  const bytes = new Uint8Array(count * panelBytes(formatOf(panels), inputs));
  const flags = (panels.zero ? 1 : 0) | (panels.bfloat ? 2 : 0) | (more.search ? SEARCH : 0);
  const bad = new BigInt64Array(1);
  const format = [panels.bits, panels.block, flags];
  const code = quantiseNative(
    rows,
    type,
    inputs,
    outputs,
    inputs,
    ...format,
    more.importance ?? null,
    bytes,
    0,
    count,
    bad,
  );
  return { code, bad: bad[0]!, bytes };
}

/** Blocks of many sizes, some of one value, of zeros, of few values, or with one that stands out. */
function randomRows(random: SeededRandom, outputs: number, inputs: number): Float32Array {
  const rows = new Float32Array(outputs * inputs);
  for (let first = 0; first < rows.length; first += 16) {
    const size = random.pick([1, 0.02, 1e-3, 30, 1e-6, 1e-9, 0]);
    const kind = random.integer(0, 5);
    for (let at = first; at < Math.min(rows.length, first + 16); at++) {
      rows[at] = kind === 0 ? size : kind === 1 ? size * random.integer(-1, 1) : size * random.normal();
    }
    if (kind === 2) rows[first] = size * 20;
  }
  return rows;
}

const padded = (rows: Float32Array, inputs: number, panel: number): Float32Array => {
  const all = new Float32Array(32 * inputs);
  all.set(rows.subarray(panel * 32 * inputs, Math.min(rows.length, (panel + 1) * 32 * inputs)));
  return all;
};

it.each([
  { bits: 4, block: 32, zero: false },
  { bits: 4, block: 128, zero: true },
  { bits: 8, block: 32, zero: false },
  { bits: 8, block: 256, zero: true },
] as const)(`to the nearest: the bytes of the readable packer, %j (seed ${testSeed})`, (panels) => {
  const random = seededRandom(testSeed);
  const format = {
    bits: panels.bits,
    blockSize: panels.block,
    symmetric: !panels.zero,
    search: false,
    half: true,
  };
  for (let round = 0; round < 6; round++) {
    const [outputs, inputs] = [random.integer(1, 70), random.integer(1, 600)];
    const rows = randomRows(random, outputs, inputs);
    const { code, bytes } = quantise(rows, 0, inputs, panels);
    expect(code).toBe(0);
    const expected = Array.from({ length: Math.ceil(outputs / 32) }, (_, panel) =>
      packPanel(quantiseRows(padded(rows, inputs, panel), 32, inputs, format), formatOf(panels), inputs),
    );
    expect(Buffer.compare(bytes, Buffer.concat(expected)), `${outputs} × ${inputs}`).toBe(0);
  }
});

it.each([
  { bits: 16, block: 0, zero: false },
  { bits: 16, block: 0, zero: false, bfloat: true },
  { bits: 32, block: 0, zero: false },
] as const)(`floats: the bytes of the readable packer, from any float, %j (seed ${testSeed})`, (panels) => {
  const random = seededRandom(testSeed);
  for (const type of [0, 1, 2]) {
    const [outputs, inputs] = [random.integer(1, 70), random.integer(1, 100)];
    const exact = randomRows(random, outputs, inputs);
    const halves = Uint16Array.from(exact, type === 1 ? halfBits : bfloatBits);
    const rows = type === 0 ? exact : widened(halves, type === 2);
    const { code, bytes } = quantise(type === 0 ? exact : halves, type, inputs, panels);
    expect(code).toBe(0);
    const expected = Array.from({ length: Math.ceil(outputs / 32) }, (_, panel) =>
      packFloatPanel(padded(rows, inputs, panel), formatOf(panels), inputs),
    );
    expect(Buffer.compare(bytes, Buffer.concat(expected))).toBe(0);
  }
});

/** What columns count: all alike, any amount, some not at all, none but a few, none. */
function importances(random: SeededRandom, inputs: number): Float32Array | null {
  const kind = random.integer(0, 4);
  if (kind === 0) return null;
  return Float32Array.from({ length: inputs }, (_, k) => {
    if (kind === 4 || (kind === 2 && k < 32)) return 0;
    if (kind === 3 && random.integer(0, 9) > 0) return 0;
    return random.next() ** 4 * random.pick([1, 1, 1e-30, 1e4]);
  });
}

it.each([32, 64, 128, 256].flatMap((block) => [true, false].map((zero) => ({ block, zero }))))(
  `by search: the bytes of the readable packer, %j (seed ${testSeed})`,
  ({ block, zero }) => {
    const random = seededRandom(testSeed + block);
    const panels = { bits: 4, block, zero } as const;
    const format = { bits: 4, blockSize: block, symmetric: !zero, search: true, half: true } as const;
    for (let round = 0; round < 24; round++) {
      const [outputs, inputs] = [random.integer(1, 70), random.integer(1, 300)];
      const rows = randomRows(random, outputs, inputs);
      // A column far from all others, which count or not.
      if (round % 4 === 0) for (let row = 0; row < outputs; row++) rows[row * inputs] = 1e4 * random.normal();
      const importance = importances(random, inputs);
      const { code, bytes } = quantise(rows, 0, inputs, panels, {
        search: true,
        ...(importance === null ? {} : { importance }),
      });
      expect(code).toBe(0);
      const expected = Array.from({ length: Math.ceil(outputs / 32) }, (_, panel) => {
        const all = padded(rows, inputs, panel);
        return packPanel(quantiseRows(all, 32, inputs, format, '', 0, importance), formatOf(panels), inputs);
      });
      expect(Buffer.compare(bytes, Buffer.concat(expected)), `${outputs} × ${inputs}`).toBe(0);
    }
  },
);

it('refuses a range whose scales a half cannot hold, by search too', () => {
  const rows = new Float32Array(2 * 40);
  rows.fill(1, 0, 40);
  rows[40 + 33] = 3e5;
  for (const value of [-4.5e5, -3e6]) {
    rows[40 + 37] = value;
    const format = { bits: 4, blockSize: 32, symmetric: false, search: true, half: true } as const;
    const refused = (): unknown => quantiseRows(rows, 2, 40, format);
    const { code, bad } = quantise(rows, 0, 40, { bits: 4, block: 32, zero: true }, { search: true });
    if (value === -3e6) {
      expect(refused).toThrow('-3000000 in row 1');
      expect({ code, bad }).toEqual({ code: BAD_NUMBER, bad: BigInt(40 + 37) });
    } else {
      expect(refused).not.toThrow();
      expect(code).toBe(0);
    }
  }
});

it('says where a number is that cannot be held', () => {
  const rows = new Float32Array(40 * 50).fill(1);
  const q4 = { bits: 4, block: 32, zero: true } as const;
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, -1e30]) {
    const spoilt = rows.slice();
    spoilt[37 * 50 + 41] = bad;
    expect(quantise(spoilt, 0, 50, q4)).toMatchObject({ code: BAD_NUMBER, bad: BigInt(37 * 50 + 41) });
    expect(quantise(spoilt, 0, 50, { bits: 16, block: 0, zero: false })).toMatchObject({
      code: BAD_NUMBER,
      bad: BigInt(37 * 50 + 41),
    });
  }
  expect(quantise(rows, 0, 50, { ...q4, block: 16 }).code).toBe(1);
});
