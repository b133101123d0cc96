/**
 * A stored tensor, or a linear of several, as the plan has it: plain data.
 */
import type { TensorEntry } from '../../proto/manifest.js';
import type { BlockFormat } from '../quantise/block-quantise.js';
import type { PanelFormat } from '../quantise/panels.js';
import type { Padding } from './degrees.js';
import type { RopeShape } from './model-shape.js';
import type { Slice } from './rank-slices.js';

/** One weight of the checkpoint in a (perhaps fused) linear. */
export interface LinearPart {
  /** Weight [rows, columns] and bias [rows] in the checkpoint. */
  source: string;
  biasSource: string | null;
  rows: number;
  columns: number;
  /** Weights and bias are multiplied by it. */
  factor: number;
  /** Rows of the source that rank r holds. */
  rowSlices: readonly Slice[];
  /** Rows it takes on every rank, padding included. */
  rowsPerRank: number;
}

/** A linear layer: its parts lie below each other as one weight [outputs, inputs] a rank. */
export interface LinearItem {
  kind: 'linear';
  name: string;
  split: 'column' | 'row' | 'vocab';
  /** A row-parallel linear may be cut further (sum-pieces.ts); pieces of one follow each other. null: it is whole. */
  piece: { index: number; of: number } | null;
  parts: readonly LinearPart[];
  /** Columns of the sources, with the padding, that rank r holds: all of them unless split is `row`. */
  columnSlices: readonly Slice[];
  /** Rows and columns on one rank, padding included. */
  outputs: number;
  inputs: number;
  /** How its weights are quantised; null: floats. */
  format: BlockFormat | null;
  /** How they lie for our own kernels; null: for ONNX Runtime's operators. */
  panels: PanelFormat | null;
  /** Pieces whose products our kernels add (sum-pieces.ts). */
  pieces: number;
  /** Zeros among the inputs. */
  padding: Padding | null;
  /** The checkpoint's own 4-bit codes are written. */
  isCoded: boolean;
  weight: TensorEntry;
  scales: TensorEntry | null;
  zeroPoints: TensorEntry | null;
  bias: TensorEntry | null;
}

/** A tensor that is copied whole. */
export interface CopyItem {
  kind: 'copy';
  name: string;
  source: string;
  factor: number;
  weight: TensorEntry;
}

/** Cosines or sines of a rotary table. */
export interface RopeItem {
  kind: 'rope';
  name: string;
  rope: RopeShape;
  part: 'cos' | 'sin';
  weight: TensorEntry;
}

export type PlanItem = LinearItem | CopyItem | RopeItem;
