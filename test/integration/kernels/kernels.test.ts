/** Our own kernels (shard-worker/kernels) against sums in doubles, alone and as an operator of ONNX Runtime. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../../partitioner/graph/onnx-writer.js';
import { CpuDevice } from '../../../shard-worker/device/cpu-device.js';
import { type SeededRandom, seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { kernelFunctions } from '../../support/kernel-functions.js';
import { type PanelFormat, type PanelLinear, product, randomLinear } from '../../support/panels.js';

const FORMATS: readonly (readonly [string, PanelFormat])[] = [
  ...[32, 64, 128, 256].flatMap((block) =>
    ([4, 8] as const).flatMap((bits) =>
      [false, true].flatMap((zero) =>
        // Rows of 16 bits take the same panels by other products; two blocks are enough.
        (block <= 64 ? [false, true] : [false]).map(
          (wide) =>
            [
              `${bits} bits in blocks of ${block}${zero ? ' with zero points' : ''}${wide ? ', rows of 16 bits' : ''}`,
              { bits, block, zero, bfloat: false, wide },
            ] as const,
        ),
      ),
    ),
  ),
  ['float16', { bits: 16, block: 0, zero: false, bfloat: false }],
  ['bfloat16', { bits: 16, block: 0, zero: false, bfloat: true }],
  ['float32', { bits: 32, block: 0, zero: false, bfloat: false }],
];

const kernels = kernelFunctions();

/** Rows with large, small and no values. */
function randomRows(random: SeededRandom, count: number, inputs: number): Float32Array {
  const kind = Array.from({ length: count }, () => random.pick([1, 1, 1e-3, 1e4, 1e-40, 0]));
  return Float32Array.from(
    { length: count * inputs },
    (_, index) => random.normal() * kind[Math.floor(index / inputs)]!,
  );
}

function randomCase(
  random: SeededRandom,
  format: PanelFormat,
): { linear: PanelLinear; bias: Float32Array | null } {
  const pieces = random.pick([1, 1, 2, 4]);
  const width = format.block === 0 ? random.integer(1, 90) : format.block * random.integer(1, 3);
  // One piece may end anywhere.
  const inputs = pieces === 1 ? random.integer(1, 700) : pieces * width;
  const outputs = random.integer(1, 140);
  const bias =
    random.next() < 0.5 ? null : Float32Array.from({ length: outputs }, () => random.normal() * 100);
  return { linear: randomLinear(random, format, inputs, outputs, pieces), bias };
}

/** Bits, not numbers: a NaN equals itself, and zeros have signs. */
const bitsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

describe.each(FORMATS)(`%s (seed ${testSeed})`, (name, format) => {
  const seed = testSeed ^ [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7);

  it.each(kernels.variants)(
    '%s: sums are those in doubles, and every variant has the same bits',
    (variant) => {
      const random = seededRandom(seed);
      for (let round = 0; round < 6; round++) {
        const { linear, bias } = randomCase(random, format);
        const count = random.pick([1, 2, 3, 4, 5, 7, 9, 13, 50]);
        const rows = randomRows(random, count, linear.inputs);
        const y = kernels.withVariant(variant, () => kernels.linear(linear, rows, bias));
        const { sums, magnitudes } = product(linear, rows, bias);
        const worst = y.reduce(
          (most, value, index) =>
            Math.max(most, Math.abs(value - sums[index]!) / (magnitudes[index]! * 1e-5 + 1e-20)),
          0,
        );
        expect(worst, JSON.stringify({ ...linear, panels: 0, count, bias: bias !== null })).toBeLessThan(1);
        const plain = kernels.withVariant(kernels.variants[0]!, () => kernels.linear(linear, rows, bias));
        expect(bitsOf(y)).toEqual(bitsOf(plain));
      }
    },
  );

  it.each(kernels.variants)('%s: a row has its bits in any crowd, panels in any cut', (variant) => {
    kernels.withVariant(variant, () => {
      const random = seededRandom(seed + 1);
      const { linear, bias } = randomCase(random, format);
      const { inputs, outputs } = linear;
      const count = 61;
      const rows = randomRows(random, count, inputs);
      const all = kernels.linear(linear, rows, bias);
      for (let first = 0; first < count; ) {
        const end = Math.min(count, first + random.pick([1, 2, 3, 5, 8, 20]));
        const some = kernels.linear(linear, rows.slice(first * inputs, end * inputs), bias);
        expect(bitsOf(some)).toEqual(bitsOf(all.slice(first * outputs, end * outputs)));
        first = end;
      }
      const cut = random.integer(0, Math.ceil(outputs / 32));
      const into = new Float32Array(all.length);
      kernels.linear(linear, rows, bias, { first: 0, end: cut, into });
      kernels.linear(linear, rows, bias, { first: cut, end: Math.ceil(outputs / 32), into });
      expect(bitsOf(into)).toEqual(bitsOf(all));
    });
  });

  it.each(kernels.variants)('%s: a NaN or an infinity spoils its row and no other', (variant) => {
    kernels.withVariant(variant, () => {
      const random = seededRandom(seed + 2);
      const { linear, bias } = randomCase(random, format);
      const { inputs, outputs } = linear;
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const rows = randomRows(random, 9, inputs);
        const clean = kernels.linear(linear, rows, bias);
        rows[4 * inputs + random.integer(0, inputs - 1)] = bad;
        const spoilt = kernels.linear(linear, rows, bias);
        for (let row = 0; row < 9; row++) {
          const seen = spoilt.subarray(row * outputs, (row + 1) * outputs);
          if (row === 4) expect(seen.some(Number.isFinite)).toBe(false);
          else expect(seen).toEqual(clean.subarray(row * outputs, (row + 1) * outputs));
        }
      }
    });
  });
});

describe('as an operator of ONNX Runtime', () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(path.join(tmpdir(), 'kernels-'));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  function graphOf(
    linear: PanelLinear,
    hasBias: boolean,
    file: string,
    changed: object = {},
    panels = linear.panels,
  ): Uint8Array {
    const { bits, block, zero, bfloat, wide, inputs, outputs, pieces } = linear;
    writeFileSync(path.join(scratch, file), Buffer.concat([new Uint8Array(4096), panels]));
    const graph = new OnnxWriter('linear');
    graph.input('x', 'float32', ['n', 'k']);
    if (hasBias) graph.input('bias', 'float32', [outputs]);
    graph.weight('weight', {
      type: 'uint8',
      shape: [panels.length],
      location: file,
      offset: 4096,
      bytes: panels.length,
    });
    const flags = { zero: zero ? 1 : 0, bfloat: bfloat ? 1 : 0, wide: wide ? 1 : 0 };
    const attributes = { bits, block, ...flags, inputs, outputs, pieces };
    const named = ['x', 'weight', ...(hasBias ? ['bias'] : [])];
    graph.node('Linear', named, ['y'], { ...attributes, ...changed }, 'shardserve');
    graph.output('y', 'float32', ['n', 'm']);
    return graph.encode('test');
  }

  it.each([1, 2, 3])('gives the bits of a direct call, with %i threads', (threads) => {
    const device = new CpuDevice({ threads, logId: 'test' });
    const random = seededRandom(testSeed);
    for (const [at, [, format]] of FORMATS.entries()) {
      const { linear, bias } = randomCase(random, format);
      const inputs = ['x', ...(bias ? ['bias'] : [])];
      const graph = graphOf(linear, bias !== null, `weights-${threads}-${at}`);
      const segment = device.loadSegment(graph, scratch, inputs, ['y']);
      for (const count of [0, 1, 3, 40]) {
        const rows = randomRows(random, count, linear.inputs);
        const memory = device.reserve((count + 1) * (linear.inputs + linear.outputs) * 4);
        memory.float32(0, rows.length).set(rows);
        const binding = segment.newBinding();
        binding.setInput(0, device.tensor(memory, 0, 'float32', [count, linear.inputs]));
        if (bias) binding.setInput(1, device.hostTensor(bias, bias.length, [linear.outputs]));
        binding.setOutput(0, device.tensor(memory, rows.byteLength, 'float32', [count, linear.outputs]));
        segment.run(binding);
        const y = memory.float32(rows.byteLength, count * linear.outputs);
        expect(bitsOf(y)).toEqual(bitsOf(kernels.linear(linear, rows, bias)));
      }
      segment.release();
    }
    device.close();
  });

  it.each([1, 3])('multiplies groups of inputs by panels of their own, with %i threads', (threads) => {
    const device = new CpuDevice({ threads, logId: 'test' });
    const random = seededRandom(testSeed);
    const [groups, count] = [5, 4];
    for (const [at, [, format]] of FORMATS.entries()) {
      const [inputs, outputs] = [random.integer(1, 200), 32 * random.integer(1, 3)];
      const linears = Array.from({ length: groups }, () => randomLinear(random, format, inputs, outputs));
      const panels = Buffer.concat(linears.map((linear) => linear.panels));
      const graph = graphOf(linears[0]!, false, `groups-${threads}-${at}`, { groups }, panels);
      const segment = device.loadSegment(graph, scratch, ['x'], ['y']);
      const rows = randomRows(random, count, groups * inputs);
      const memory = device.reserve(4 * count * groups * (inputs + outputs));
      memory.float32(0, rows.length).set(rows);
      const binding = segment.newBinding();
      binding.setInput(0, device.tensor(memory, 0, 'float32', [count, groups * inputs]));
      binding.setOutput(0, device.tensor(memory, rows.byteLength, 'float32', [count, groups * outputs]));
      segment.run(binding);
      const y = memory.float32(rows.byteLength, count * groups * outputs);
      /** A group's columns of all rows. */
      const cut = (values: Float32Array, group: number, width: number): Float32Array =>
        Float32Array.from({ length: count * width }, (_, index) => {
          return values[(Math.floor(index / width) * groups + group) * width + (index % width)]!;
        });
      for (const [group, linear] of linears.entries()) {
        const expected = kernels.linear(linear, cut(rows, group, inputs), null);
        expect(bitsOf(cut(y, group, outputs))).toEqual(bitsOf(expected));
      }
      segment.release();
    }
    device.close();
  });

  it('refuses a node whose numbers do not fit, and says which', () => {
    const device = new CpuDevice({ threads: 1, logId: 'test' });
    const linear = randomLinear(seededRandom(1), { bits: 4, block: 32, zero: false, bfloat: false }, 64, 40);
    const load = (changed: object) =>
      device.loadSegment(graphOf(linear, false, 'weights', changed), scratch, ['x'], ['y']);
    expect(() => load({ block: 48 })).toThrow(/no format of 4 bits in blocks of 48/);
    expect(() => load({ pieces: 3 })).toThrow(/pieces/);
    expect(() => load({ groups: 2 })).toThrow(/no 2 groups of 40 outputs/);
    const segment = load({ inputs: 32 });
    const memory = device.reserve(4096);
    const binding = segment.newBinding();
    const run = (width: number) => {
      binding.setInput(0, device.tensor(memory, 0, 'float32', [1, width]));
      binding.setOutput(0, device.tensor(memory, 1024, 'float32', [1, 40]));
      segment.run(binding);
    };
    expect(() => run(32)).toThrow(/panels have 1152 bytes, not 2304/);
    expect(() => run(64)).toThrow(/rows of 32 values, not of 64/);
    device.close();
  });
});
