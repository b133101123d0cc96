/** A histogram's cells: which cell a value falls into, and what a scrape is told. */
import { describe, expect, it } from 'vitest';
import { HistogramCells } from '../../../../server/metrics/histogram-cells.js';

describe('the cells of a histogram', () => {
  it('count a value at a bound in the cell below it, as Prometheus means `le`', () => {
    const cells = new HistogramCells([1, 2, 4]);
    for (const value of [0.5, 1, 1.5, 2, 4]) cells.observe(value);
    expect(cells.cumulative()).toEqual([2, 4, 5]);
  });

  it('count what lies above the last bound in the count and the sum only', () => {
    const cells = new HistogramCells([1]);
    cells.observe(0.25);
    cells.observe(10);
    expect(cells.cumulative()).toEqual([1]);
    expect(cells.count).toBe(2);
    expect(cells.sum).toBe(10.25);
  });

  it('refuse bounds that do not rise, none, or more than are quick to walk', () => {
    expect(() => new HistogramCells([1, 1])).toThrow('bounds 1, 1');
    expect(() => new HistogramCells([])).toThrow('bounds');
    expect(() => new HistogramCells(Array.from({ length: 33 }, (_, index) => index))).toThrow('bounds');
  });
});
