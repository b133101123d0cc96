/** Statistics beside SciPy 1.17.1's numbers. */
import { expect, it } from 'vitest';
import { mannWhitney } from '../../../../tuner/statistics/mann-whitney.js';
import { percentile } from '../../../../tuner/statistics/percentile.js';
import { studentInterval, studentQuantile } from '../../../../tuner/statistics/student.js';

it.each([
  [0.975, 1, 12.706204736174694],
  [0.975, 2, 4.302652729749462],
  [0.975, 4, 2.7764451051977934],
  [0.99166666666666, 4, 3.9607864827692287],
  [0.95, 30, 1.697260886593957],
])("Student's t: quantile %f with %i degrees of freedom", (p, degrees, expected) => {
  expect(studentQuantile(p, degrees)).toBeCloseTo(expected, 9);
});

it('one value says nothing of its mean', () => {
  expect(studentInterval([3], 0.95)).toEqual({ mean: 3, low: -Infinity, high: Infinity });
});

it("Mann and Whitney's test: exact, with ties, and of large samples", () => {
  const exact = mannWhitney([12.1, 13.4, 11.8, 12.9, 14.2], [13.9, 14.4, 15.1, 13.8, 14.9, 15.6]);
  expect(exact.u).toBe(2);
  expect(exact.p).toBeCloseTo(0.017316017316017316, 12);
  const tied = mannWhitney([1, 2, 2, 3, 5, 8], [2, 4, 4, 6, 8, 9, 9]);
  expect(tied.u).toBe(9.5);
  expect(tied.p).toBeCloseTo(0.11256702389221167, 9);
  const x = Array.from({ length: 60 }, (_, index) => index);
  const large = mannWhitney(
    x,
    x.map((value) => (value + 10) * 1.1 + 0.37),
  );
  expect(large.u).toBe(1078);
  expect(large.p).toBeCloseTo(0.0001525428085573747, 9);
});

it('all alike do not differ', () => {
  expect(mannWhitney([1, 1, 1], [1, 1, 1]).p).toBe(1);
});

it('a percentile is one of the values, the least that a share does not exceed', () => {
  const values = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(percentile(values, 0.99)).toBe(99);
  expect(percentile(values, 0.5)).toBe(50);
  expect(percentile([7], 0.99)).toBe(7);
  expect(percentile([], 0.5)).toBeNaN();
});
