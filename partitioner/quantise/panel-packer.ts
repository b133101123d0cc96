/**
 * What makes a panel of 32 rows of floats: the readable way; a native one gives the same bytes faster, and several at once.
 *
 * In      float32 [32, inputs], how they are quantised (null: not at all), how they lie
 * Out     bytes of one panel
 * Errors  ServingError CHECKPOINT_INVALID naming tensor, row and column of a number that cannot be held
 */
import { ServingError } from '../../proto/errors.js';
import type { Halves } from '../checkpoint/tensor-source.js';
import { type BlockFormat, quantiseRows } from './block-quantise.js';
import { PANEL_OUTPUTS, type PanelFormat, packFloatPanel, packPanel } from './panels.js';

/** Where a row of the panel is in the checkpoint; `column` is where its columns begin. */
export type RowPlace = (output: number) => { name: string; row: number; column: number };

/** Rows of a matrix, as many as whole panels have, and some of their columns. */
export interface MatrixRows {
  /** The first row's columns, and what lies behind them. */
  values: Float32Array | Halves;
  /** Numbers from a row to the next. */
  stride: number;
  count: number;
}

export interface PanelPacker {
  /** Several panels from where their rows lie; they must stay there until it is done. Absent: rows are collected for `pack`. */
  packMany?(
    rows: MatrixRows,
    format: BlockFormat | null,
    panels: PanelFormat,
    inputs: number,
    placeOf: RowPlace,
    importance: Float32Array | null,
  ): Promise<Uint8Array>;

  /** What it is given belongs to it until it is done. */
  pack(
    rows: Float32Array,
    format: BlockFormat | null,
    panels: PanelFormat,
    inputs: number,
    placeOf: RowPlace,
    /** How much each input counts (calibration.ts); null: all alike. */
    importance: Float32Array | null,
  ): Uint8Array | Promise<Uint8Array>;
}

/** The largest number that rounds to a float16. */
const HALF_LIMIT = 65_520;

export const referencePacker = {
  pack(
    rows: Float32Array,
    format: BlockFormat | null,
    panels: PanelFormat,
    inputs: number,
    placeOf: RowPlace,
    importance: Float32Array | null,
  ): Uint8Array {
    requireHeld(rows, panels, inputs, placeOf);
    if (format === null) return packFloatPanel(rows, panels, inputs);
    const quantised = quantiseRows(rows, PANEL_OUTPUTS, inputs, format, 'weights', 0, importance);
    return packPanel(quantised, panels, inputs);
  },
} satisfies PanelPacker;

/** @throws ServingError CHECKPOINT_INVALID: a number that the panel cannot stand for */
export function requireHeld(
  rows: Float32Array,
  { bits, bfloat, blockSize }: PanelFormat,
  inputs: number,
  placeOf: RowPlace,
): void {
  if (bits === 32) return;
  // A quantised block's scale is at least an eighth (a 128th) of the largest number.
  const limit = bfloat ? Number.MAX_VALUE : HALF_LIMIT * (blockSize === 0 ? 1 : 2 ** (bits - 1));
  const at = rows.findIndex((value) => !(Math.abs(value) < limit));
  if (at === -1) return;
  const { column, name, row } = placeOf(Math.floor(at / inputs));
  const what = Number.isFinite(rows[at]) ? ', beyond what a float16 holds; use dtype fp32 or bf16' : '';
  throw new ServingError(
    'CHECKPOINT_INVALID',
    `Tensor ${name} has ${rows[at]} in row ${row}, column ${column + (at % inputs)}${what}`,
  );
}
