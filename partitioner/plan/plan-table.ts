/**
 * A plan as people read it: one line a tensor, layers that are alike in one, then the sizes.
 *
 * In      Plan
 * Out     rows (also for `--json`), and lines of text
 * Pure
 */

import { allReducesPerStep, type TensorEntry } from '../../proto/manifest.js';
import type { PartitionPlan } from '../../proto/partition.js';
import type { PolicyReport } from '../policies/recognise-model.js';
import { isEvenDegree } from './degrees.js';
import { isNormalised } from './embedding-shape.js';
import { type Plan, storedTensors } from './plan.js';

/** Tensors of one role over all layers. */
export interface PlanRow {
  /** `*` stands for the layer, the expert, the piece. */
  tensor: string;
  layers: number;
  split: TensorEntry['split'];
  /** Axis of the stored tensor that is cut; null: none. */
  axis: number | null;
  type: string;
  /** On one rank. */
  shape: number[];
  file: TensorEntry['file'];
  /** All layers, in one file. */
  bytes: number;
}

/** The plan as a whole: what the server reads, and more for people; the `plan` event of `--json`. */
export interface PlanSummary extends PartitionPlan {
  parameters: number;
  dtype: string;
  blockSize: number | null;
  allReducesPerStep: number;
  policy: PolicyReport;
  tensors: PlanRow[];
}

export function summarisePlan(plan: Plan, policy: PolicyReport): PlanSummary {
  return {
    architecture: plan.shape.architecture,
    parameters: plan.parameters,
    worldSize: plan.worldSize,
    dtype: plan.format.dtype,
    blockSize: plan.format.blockSize,
    bytesPerRank: plan.rankBytes,
    sharedBytes: plan.sharedBytes,
    kvBytesPerTokenPerRank: plan.kvBytesPerTokenPerRank,
    activationColumns: plan.buffers.reduce((sum, { columns }) => sum + columns, 0),
    contextLength: plan.shape.contextLength,
    textTokens: plan.shape.embedding?.textTokens ?? null,
    hasLabels: (plan.shape.embedding?.labels ?? null) !== null,
    isNormalised: plan.shape.embedding !== null && isNormalised(plan.shape.embedding),
    allReducesPerStep: allReducesPerStep(plan.program),
    isEven: isEvenDegree(plan.shape, plan.worldSize),
    policy,
    tensors: planRows(plan),
  };
}

function planRows(plan: Plan): PlanRow[] {
  const rows = new Map<string, PlanRow>();
  for (const { name, split, file, bytes, ...stored } of storedTensors(plan)) {
    const { shape, type } = asPeopleKnowIt(stored);
    const tensor = name.replace(/^layer-\d+\./, 'layer-*.').replace(/\.(expert|piece)-\d+\./, '.$1-*.');
    // Layers that are left at 8 bits have rows of their own.
    const alike = `${tensor} ${type} ${shape.join()}`;
    const row = rows.get(alike);
    if (row) {
      row.layers++;
      row.bytes += bytes;
    } else {
      rows.set(alike, {
        tensor,
        layers: 1,
        split,
        axis: splitAxis(split),
        type,
        shape: [...shape],
        file,
        bytes,
      });
    }
  }
  return [...rows.values()];
}

/** Panels are bytes: what they stand for. */
function asPeopleKnowIt({ panels, shape, type }: Pick<TensorEntry, 'panels' | 'shape' | 'type'>): {
  shape: readonly number[];
  type: string;
} {
  if (panels === undefined) return { shape, type };
  const { bfloat, bits, blockSize, inputs, outputs } = panels;
  const kind = blockSize > 0 ? 'int' : bfloat ? 'bfloat' : 'float';
  return { shape: [outputs, inputs], type: `${kind}${bits}` };
}

function splitAxis(split: TensorEntry['split']): number | null {
  if (split === 'row') return 1;
  return split === 'column' || split === 'vocab' ? 0 : null;
}

/** Lines of text, at most about 100 columns wide. */
export function formatPlan(summary: PlanSummary): string[] {
  const { worldSize, dtype, blockSize } = summary;
  const block = blockSize === null ? '' : `, blocks of ${blockSize}`;
  const header = ['tensor', 'layers', 'split', 'axis', 'type', 'shape on a rank', 'file', 'size'];
  const body = summary.tensors.map((row) => [
    row.tensor,
    String(row.layers),
    row.split,
    row.axis === null ? '-' : String(row.axis),
    row.type,
    row.shape.join(' × '),
    row.file,
    formatBytes(row.bytes),
  ]);
  return [
    `${summary.architecture}, ${formatCount(summary.parameters)} parameters, ${dtype}${block}, tensor parallel degree ${worldSize}`,
    ...policyLines(summary.policy),
    ...alignColumns([header, ...body]),
    `${worldSize === 1 ? 'the rank' : `each of ${worldSize} ranks`}: ${formatBytes(summary.bytesPerRank)} of weights, ` +
      `${formatBytes(summary.kvBytesPerTokenPerRank)} of keys and values a token`,
    `shared by all ranks: ${formatBytes(summary.sharedBytes)}; all-reduces a step: ${summary.allReducesPerStep}`,
  ];
}

/** Nothing for a family in floats: that is the usual case. */
function policyLines({ kind, summary, recognised, assumed, weights }: PolicyReport): string[] {
  const stored = weights === undefined ? [] : [weights];
  if (kind === 'family') return stored;
  return [
    ...stored,
    `policy: ${summary}`,
    ...recognised.map((line) => `  recognised ${line}`),
    ...assumed.map((line) => `  assumed: ${line}`),
  ];
}

function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** 1 MB = 10^6 bytes. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes / 1000;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} billion`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} million`;
  return String(count);
}
