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

it('has fifteen types', () => {
  expect(Object.keys(cases)).toHaveLength(15);
});
