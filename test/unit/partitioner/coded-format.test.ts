/** partitioner/coded-format.ts: which blocks int4 has of a checkpoint in codes, and what it refuses. */
import { describe, expect, it } from 'vitest';
import {
  type CodedTensors,
  chooseCodedFormat,
  expectedCodes,
} from '../../../partitioner/quantise/coded-format.js';
import { linearFormat } from '../../../partitioner/quantise/weight-format.js';
import { toyShape } from '../../fixtures/toy-config.js';

const LARGE = 1e9;
const coded = (groupSize: number, isContiguous = true): CodedTensors =>
  new Map([['x', { groupSize, isContiguous }]]);

describe('int4 of codes', () => {
  it.each([
    [32, 32],
    [128, 128],
    [1024, 256],
    [48, 16],
    [1376, 32],
  ])('groups of %i are made of blocks of %i', (group, block) => {
    const format = chooseCodedFormat({ dtype: 'int4', blockSize: 64 }, LARGE, coded(group), 2);
    expect(format).toMatchObject({ dtype: 'int4', blockSize: block });
  });

  it('groups that are made of none are refused', () => {
    const choose = (): unknown => chooseCodedFormat({ dtype: 'int4' }, LARGE, coded(24), 2);
    expect(choose).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(choose).toThrow('groups of 24 columns');
  });

  it('columns out of their order: auto writes int8, int4 is refused', () => {
    expect(chooseCodedFormat({}, LARGE, coded(128, false), 2).dtype).toBe('int8');
    expect(() => chooseCodedFormat({ dtype: 'int4' }, LARGE, coded(128, false), 2)).toThrow('desc_act');
    expect(chooseCodedFormat({ dtype: 'fp32' }, LARGE, coded(128, false), 2).dtype).toBe('fp32');
  });

  it('own codes have zero points; linears beside them are written at 8 bits', () => {
    const format = chooseCodedFormat({ dtype: 'int4' }, LARGE, coded(64), 2);
    const of = (codes: 'own' | 'others' | 'none') => linearFormat(format, 'head', 2, 64, codes);
    expect(of('own')).toMatchObject({ bits: 4, blockSize: 64, symmetric: false, search: false });
    expect(of('others')).toMatchObject({ bits: 8, symmetric: true });
    expect(of('none')).toMatchObject({ bits: 4, symmetric: true });
  });
});

it('of config.json alone all linears of the layers are expected in codes, and no others', () => {
  const shape = toyShape();
  const expected = expectedCodes(shape, { method: 'gptq', groupSize: null, lessOne: true });
  expect(expected.size).toBe(7 * shape.numLayers);
  expect([...expected.values()].some(({ groupSize }) => groupSize === shape.ffnSize)).toBe(true);
  expect(expectedCodes(shape, null).size + expectedCodes(shape, { method: 'mxfp4' }).size).toBe(0);
});
