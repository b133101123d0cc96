/**
 * partitioner/quantise against the operator it writes for: ONNX Runtime's MatMulNBits must compute with exactly the weights
 * that dequantiseRows gives. The identity matrix as its input makes the operator write its weights out.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import protobuf from 'protobufjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  dequantiseRows,
  packZeroPoints,
  type QuantisedBits,
  type QuantisedRows,
  quantiseRows,
} from '../../../partitioner/quantise/block-quantise.js';
import { protoFile } from '../../../proto/proto-file.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';

const ROWS = 24;
const FLOAT = 1;
const UINT8 = 2;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'matmul-nbits-'));
});

afterAll(() => rm(folder, { recursive: true }));

/** One MatMulNBits node: `a` [m, k] → `y` [m, ROWS]. */
async function matMulModel(
  { packed, scales, zeroPoints }: QuantisedRows,
  columns: number,
  bits: QuantisedBits,
  blockSize: number,
  accuracyLevel: number,
): Promise<string> {
  const blocks = scales.length / ROWS;
  const packedZeroPoints = zeroPoints
    ? packZeroPoints(Uint8Array.from(zeroPoints), ROWS, blocks, bits)
    : new Uint8Array(0);
  const data = Buffer.concat([packed, new Uint8Array(scales.buffer), packedZeroPoints]);
  await writeFile(join(folder, 'weights'), data);
  const external = (name: string, dataType: number, dims: number[], offset: number, length: number) => ({
    name,
    dataType,
    dims,
    dataLocation: 1,
    externalData: Object.entries({ location: 'weights', offset, length }).map(([key, value]) => ({
      key,
      value: String(value),
    })),
  });
  const matrix = (name: string, width: number) => ({
    name,
    type: { tensorType: { elemType: FLOAT, shape: { dim: [{ dimParam: 'm' }, { dimValue: width }] } } },
  });
  const attributes = { K: columns, N: ROWS, bits, block_size: blockSize, accuracy_level: accuracyLevel };
  const ModelProto = (await protobuf.load(protoFile('onnx.proto'))).lookupType('onnx.ModelProto');
  const model = ModelProto.fromObject({
    irVersion: 10,
    opsetImport: [
      { domain: '', version: 21 },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name: 'matmul',
      node: [
        {
          opType: 'MatMulNBits',
          domain: 'com.microsoft',
          input: ['a', 'b', 'scales', ...(zeroPoints ? ['zero-points'] : [])],
          output: ['y'],
          attribute: Object.entries(attributes).map(([name, i]) => ({ name, i, type: 2 })),
        },
      ],
      initializer: [
        external('b', UINT8, [ROWS, blocks, (blockSize * bits) / 8], 0, packed.length),
        external('scales', FLOAT, [ROWS, blocks], packed.length, scales.byteLength),
        ...(zeroPoints
          ? [
              external(
                'zero-points',
                UINT8,
                [ROWS, packedZeroPoints.length / ROWS],
                packed.length + scales.byteLength,
                packedZeroPoints.length,
              ),
            ]
          : []),
      ],
      input: [matrix('a', columns)],
      output: [matrix('y', ROWS)],
    },
  });
  const path = join(folder, 'matmul.onnx');
  await writeFile(path, ModelProto.encode(model).finish());
  return path;
}

describe.each<[QuantisedBits, number, number, number, symmetric: boolean]>([
  // Level 0 is the exact float32 kernel, level 4 quantises its input too: a one in a row of zeros is exact there as well.
  [4, 16, 64, 0, true],
  [4, 32, 100, 0, true],
  [4, 128, 256, 0, true],
  [4, 32, 100, 4, true],
  [4, 128, 256, 4, true],
  [4, 16, 80, 0, false],
  [4, 32, 100, 4, false],
  [4, 128, 640, 4, false],
  [8, 32, 100, 0, true],
  [8, 32, 100, 4, true],
  [8, 128, 256, 4, true],
  [8, 32, 100, 4, false],
])(
  'MatMulNBits of %i bits, block %i, %i columns, accuracy level %i, symmetric: %s',
  (bits, blockSize, columns, accuracyLevel, symmetric) => {
    it(`computes with the weights that dequantiseRows gives (seed ${testSeed})`, async () => {
      const random = seededRandom(testSeed);
      const weights = Float32Array.from({ length: ROWS * columns }, () => random.normal() * 0.05);
      // Blocks whose largest value is positive (negative scale) and negative occur by chance; a block of zeros does not.
      weights.fill(0, 0, blockSize);
      weights.fill(-0.05, columns, 2 * columns);
      weights.fill(0.05, 2 * columns, 3 * columns);
      const format = { bits, blockSize, symmetric, search: true };
      const quantised = quantiseRows(weights, ROWS, columns, format);
      const expected = dequantiseRows(quantised, ROWS, columns, format);
      const path = await matMulModel(quantised, columns, bits, blockSize, accuracyLevel);
      const session = await InferenceSession.create(path, { intraOpNumThreads: 1 });
      const identity = new Float32Array(columns * columns);
      for (let column = 0; column < columns; column++) identity[column * columns + column] = 1;
      const { y } = await session.run({ a: new Tensor('float32', identity, [columns, columns]) });
      const written = y!.data as Float32Array;
      for (let row = 0; row < ROWS; row++) {
        for (let column = 0; column < columns; column++) {
          const wanted = expected[row * columns + column]!;
          const got = written[column * ROWS + row]!;
          if (Math.abs(got - wanted) > 1e-6)
            expect.fail(`row ${row}, column ${column}: ${got}, expected ${wanted}`);
        }
      }

      // Real inputs; and ones against a row that is at one end of the range everywhere, where 16-bit sums would overflow.
      const inputs = Float32Array.from({ length: 3 * columns }, (_, at) =>
        at < columns ? 1 : random.normal(),
      );
      const { y: products } = await session.run({ a: new Tensor('float32', inputs, [3, columns]) });
      for (let input = 0; input < 3; input++) {
        for (let row = 0; row < ROWS; row++) {
          let wanted = 0;
          let magnitude = 0;
          for (let column = 0; column < columns; column++) {
            const product = inputs[input * columns + column]! * expected[row * columns + column]!;
            wanted += product;
            magnitude += Math.abs(product);
          }
          const got = (products!.data as Float32Array)[input * ROWS + row]!;
          // Level 4 rounds each input to one of 127 levels of its block's largest.
          const bound = magnitude * (accuracyLevel === 4 ? 0.02 : 1e-5);
          if (Math.abs(got - wanted) > bound)
            expect.fail(`input ${input}, row ${row}: ${got}, expected ${wanted}`);
        }
      }
      await session.release();
    });
  },
);
