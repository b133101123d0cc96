/**
 * How families keep query, key and value in one tensor.
 *
 * In      the tensor's stem, head counts
 * Out     where each role's rows lie
 * Unit    one head
 */
import type { Place } from '../plan/model-shape.js';
import type { HeadSizes } from './decoder-shape.js';

interface QkvPlaces {
  query: Place;
  key: Place;
  value: Place;
}

function places(
  stem: string,
  unitRows: number,
  groupUnits: number,
  units: Record<keyof QkvPlaces, [firstUnit: number, units: number]>,
  transposed = false,
): QkvPlaces {
  const place = ([firstUnit, count]: [number, number]): Place => ({
    stem,
    rows: { unitRows, groupUnits, firstUnit, units: count },
    transposed,
  });
  return { query: place(units.query), key: place(units.key), value: place(units.value) };
}

/** All queries, all keys, all values. @param transposed GPT-2's Conv1D keeps weights [in, out] */
export function stackedQkv(
  stem: string,
  { numHeads, numKvHeads, headDim }: HeadSizes,
  transposed = false,
): QkvPlaces {
  const all = numHeads + 2 * numKvHeads;
  return places(
    stem,
    headDim,
    all,
    { query: [0, numHeads], key: [numHeads, numKvHeads], value: [numHeads + numKvHeads, numKvHeads] },
    transposed,
  );
}

/** For every KV head: its queries, its key, its value. With as many KV heads as heads: query, key, value of every head. */
export function groupedQkv(stem: string, { numHeads, numKvHeads, headDim }: HeadSizes): QkvPlaces {
  const queries = numHeads / numKvHeads;
  return places(stem, headDim, queries + 2, {
    query: [0, queries],
    key: [queries, 1],
    value: [queries + 1, 1],
  });
}

/** In `parts` parts, as their training's machine kept them, each: queries, values, keys (CodeGen). */
export function partedQvk(stem: string, { numHeads, headDim }: HeadSizes, parts: number): QkvPlaces {
  const heads = numHeads / parts;
  return places(stem, headDim, 3 * heads, {
    query: [0, heads],
    value: [heads, heads],
    key: [2 * heads, heads],
  });
}

/** Gate above up, in one tensor. */
export function stackedGateUp(stem: string, ffnSize: number): { gate: Place; up: Place } {
  const place = (firstUnit: number): Place => ({
    stem,
    rows: { unitRows: ffnSize, groupUnits: 2, firstUnit, units: 1 },
    transposed: false,
  });
  return { gate: place(0), up: place(1) };
}
