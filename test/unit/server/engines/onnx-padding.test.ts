/** What requests that are filled up take together. */
import { expect, it } from 'vitest';
import { joinedBytes } from '../../../../server/engines/onnx/padding.js';
import type { NamedTensor } from '../../../../server/requests/predict-request.js';

const ids = (...shape: number[]): NamedTensor => ({
  ...{ name: 'ids', type: 'INT64', shape },
  bytes: new Uint8Array(8 * shape.reduce((product, length) => product * length, 1)),
});
const texts = (bytes: number): NamedTensor => ({
  ...{ name: 'texts', type: 'BYTES', shape: [1] },
  bytes: new Uint8Array(bytes),
});

it('one long request makes all as long', () => {
  expect(joinedBytes([[ids(1, 4)], [ids(2, 4)]])).toBe(3 * 4 * 8);
  expect(joinedBytes([[ids(1, 1000)], [ids(1, 2)], [ids(3, 7)]])).toBe(5 * 1000 * 8);
  expect(joinedBytes([[ids(1, 2, 9)], [ids(1, 5, 3)]])).toBe(2 * 5 * 9 * 8);
  expect(
    joinedBytes([
      [ids(1, 2), texts(30)],
      [ids(1, 3), texts(12)],
    ]),
  ).toBe(2 * 3 * 8 + 42);
  expect(joinedBytes([])).toBe(0);
});
