/** server/http/bodies/numpy-format.ts: what NumPy wrote is read, and what is written is read again. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readNpy, readNpz, writeNpy, writeNpz } from '../../../../server/http/bodies/numpy-format.js';
import { elementsOfTensor, listedTensor } from '../../../../server/http/bodies/tensor-json.js';
import type { NamedTensor } from '../../../../server/requests/predict-request.js';
import { zipBytes } from '../../../support/model-store-bytes.js';
import { repositoryRoot } from '../../../support/repository-root.js';

const FOLDER = path.join(repositoryRoot, 'test/golden/onnx-models');
const wanted = JSON.parse(readFileSync(path.join(FOLDER, 'arrays.numpy.json'), 'utf8')) as {
  name: string;
  shape: number[];
  datatype: string;
  data: unknown[];
}[];
const plain = (tensors: readonly NamedTensor[]) =>
  tensors.map((tensor) => ({
    name: tensor.name,
    shape: [...tensor.shape],
    datatype: tensor.type,
    data: elementsOfTensor(tensor).map((one) => (typeof one === 'number' ? Math.fround(one) : one)),
  }));
const rounded = wanted.map((one) => ({
  ...one,
  data: one.data.map((value) => (typeof value === 'number' ? Math.fround(value) : value)),
}));

describe('NumPy’s format', () => {
  it.each(['arrays.npz', 'compressed.npz'])('of %s, as NumPy wrote it, is read and written', async (name) => {
    const tensors = await readNpz(readFileSync(path.join(FOLDER, name)), 2 ** 20);
    expect(plain(tensors)).toEqual(rounded);
    expect(plain(await readNpz(await writeNpz(tensors), 2 ** 20))).toEqual(rounded);
  });

  it('column by column is refused, with what to do', () => {
    expect(() => readNpy('x', readFileSync(path.join(FOLDER, 'turned.npy')))).toThrow(
      'Array x lies column by column; send numpy.ascontiguousarray of it',
    );
  });

  it('that is damaged is told, wherever it is cut', async () => {
    const tensor: NamedTensor = { name: 'x', type: 'FP32', shape: [2], bytes: new Uint8Array(8) };
    const npy = writeNpy(tensor);
    expect(npy.length % 64).toBe(8);
    for (let length = 0; length < npy.length; length++)
      expect(() => readNpy('x', npy.subarray(0, length)), String(length)).toThrow(/^Array x (?:is not|has)/);
    const npz = await writeNpz([tensor]);
    for (let length = 0; length < npz.length; length += 7)
      await expect(readNpz(npz.subarray(0, length), 2 ** 20), String(length)).rejects.toMatchObject({
        code: 'BAD_REQUEST',
      });
    const big = Buffer.from(npy.toString('latin1').replace('<f4', '>f4'), 'latin1');
    expect(() => readNpy('x', big)).toThrow('is of >f4, which is not served');
  });

  it('as JSON, of axes that have no text: found by the fuzzer', () => {
    const axes = [{ toString: null, valueOf: 1 }, 'x'];
    expect(() => listedTensor({ name: 'x', datatype: 'FP32', shape: axes, data: [] })).toThrow(
      'shape [object,string] of x is not made of whole numbers',
    );
  });

  it('unpack to no more than a body may have', async () => {
    const zeros: NamedTensor = { name: 'x', type: 'UINT8', shape: [2 ** 21], bytes: new Uint8Array(2 ** 21) };
    const npz = zipBytes([{ name: 'x.npy', content: writeNpy(zeros) }]);
    await expect(readNpz(npz, 2 ** 20)).rejects.toThrow(/may unpack to at most 1048576: .* max_request_size/);
    expect(plain(await readNpz(await writeNpz([zeros]), 2 ** 22))).toHaveLength(1);
  });

  /** An array with such a header, and data. */
  const npyOf = (header: string, data: Buffer, major = 1): Buffer => {
    const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), major, 0, 0, 0]);
    head.writeUInt16LE(header.length, 8);
    return Buffer.concat([head, Buffer.from(header), data]);
  };

  it('of a later version is refused where its head ends early: found by the fuzzer', () => {
    expect(() => readNpy('x', npyOf('', Buffer.alloc(1), 2))).toThrow("is not in NumPy's format");
  });

  it('of a billion texts of no characters is refused', () => {
    const header = "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000,)}";
    expect(() => readNpy('x', npyOf(header, Buffer.alloc(0)))).toThrow('has texts of no characters');
  });

  it('of a text that is long and nearly empty is read in one walk', () => {
    const header = "{'descr': '|S900000', 'fortran_order': False, 'shape': (1,)}";
    const data = Buffer.alloc(900_000);
    data[data.length - 1] = 97;
    expect(readNpy('x', npyOf(header, data)).bytes.length).toBe(900_004);
  });
});
