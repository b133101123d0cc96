/** partitioner/checkpoint/ggml-blocks: the floats of each type of block, bit by bit those that the Python package gguf makes (make_gguf.py). */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { decodeBlocks, ggmlType } from '../../../../partitioner/checkpoint/ggml-blocks.js';
import { goldenFolder } from '../../../support/golden.js';

type Case = { type: number; bytes: string; floats: string };
const file = path.join(goldenFolder('gguf'), 'blocks.json.gz');
const cases = JSON.parse(gunzipSync(readFileSync(file)).toString()) as Record<string, Case>;

describe.each(Object.entries(cases))('%s', (name, { bytes, floats, type }) => {
  it('is the same floats', () => {
    const known = ggmlType(type);
    expect(known?.name).toBe(name);
    const blocks = Uint8Array.from(Buffer.from(bytes, 'base64'));
    const expected = new Float32Array(Uint8Array.from(Buffer.from(floats, 'base64')).buffer);
    const seen = new Float32Array(expected.length);
    decodeBlocks(known!, blocks, seen);
    expect(new Uint32Array(seen.buffer)).toEqual(new Uint32Array(expected.buffer));
  });
});

describe('codes', () => {
  it.each(['Q4_0', 'Q4_1', 'Q4_K', 'Q8_0'])(
    'of %s mean the same floats, as near as float16 has scale and zero point',
    (name) => {
      const { bytes, floats, type } = cases[name]!;
      const { codes, bytes: blockBytes, weights } = ggmlType(type)!;
      const { anyZero, bits } = codes!;
      const blocks = Uint8Array.from(Buffer.from(bytes, 'base64'));
      const expected = new Float32Array(Uint8Array.from(Buffer.from(floats, 'base64')).buffer);
      const scales = new Float32Array(expected.length / 32);
      const zeroPoints = anyZero ? new Float32Array(scales.length) : new Uint8Array(scales.length);
      const packed = new Uint8Array((expected.length * bits) / 8);
      for (let block = 0; block < expected.length / weights; block++) {
        const group = (block * weights) / 32;
        codes!.read(
          blocks,
          block * blockBytes,
          packed,
          (block * weights * bits) / 8,
          { scales, zeroPoints },
          group,
        );
      }
      const seen = Float32Array.from(expected, (_, index) => {
        const group = Math.floor(index / 32);
        const code = bits === 8 ? packed[index]! : (packed[index >> 1]! >> (4 * (index & 1))) & 15;
        return (code - zeroPoints[group]!) * scales[group]!;
      });
      if (!anyZero) expect(seen).toEqual(expected);
      const largest = Math.max(...expected.map(Math.abs));
      seen.forEach((value, index) => {
        expect(Math.abs(value - expected[index]!)).toBeLessThan(largest * 2 ** -9);
      });
    },
  );
});

it('has sixteen types', () => {
  expect(Object.keys(cases)).toHaveLength(16);
});
