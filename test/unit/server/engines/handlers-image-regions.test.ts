/** Regions of an image that an explanation leaves out: where they are, and what they become. */
import { expect, it } from 'vitest';
import { withRegions } from '../../../../server/engines/handlers/defaults/image-regions.js';

const image = (height: number, width: number) => ({
  data: new Uint8Array(height * width * 3).fill(9),
  height,
  width,
});
const marks = (without: readonly number[]) =>
  Array.from({ length: 64 }, (_, at) => (without.includes(at) ? '0' : '1')).join('');

it.each([
  [8, 8],
  [16, 24],
  [9, 13],
  [5, 3],
])('cover an image of %i × %i, each pixel once', (height, width) => {
  const given = image(height, width);
  const seen = new Uint8Array(height * width);
  for (let region = 0; region < 64; region++) {
    const { data } = withRegions(given, marks([region]));
    for (let pixel = 0; pixel < seen.length; pixel++) {
      const colour = [...data.subarray(3 * pixel, 3 * pixel + 3)];
      if (colour.every((one) => one === 9)) continue;
      expect(colour).toEqual([124, 116, 104]);
      seen[pixel]!++;
    }
  }
  expect(seen).toEqual(new Uint8Array(height * width).fill(1));
  expect(given.data.every((one) => one === 9)).toBe(true);
});

it('are counted row by row', () => {
  const { data } = withRegions(image(8, 8), marks([11]));
  expect([...data.keys()].filter((at) => data[at] !== 9)).toEqual([33, 34, 35]);
});

it.each(['', '1', marks([]).concat('1'), marks([]).replace('1', '2')])('are 64: not %j', (kept) => {
  expect(() => withRegions(image(8, 8), kept)).toThrow('64 regions, each 0 or 1');
});
