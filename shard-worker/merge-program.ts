/**
 * The manifest's program for a device with memory of its own: runs that follow each other become one, so that a step is few submissions.
 *
 * In      the program; the graphs of its segments
 * Out     a program of fewer runs, and the graphs that are new; the same on every rank
 * Limits  what makes rows stands alone, since a step may want none
 * Measured  tiny Llama, two layers: README, 2026-11-30
 */
import type { Manifest, ProgramOp, RunOp } from '../proto/manifest.js';
import { type GraphPart, type MergedGraph, mergeGraphs } from './ort/merge-graphs.js';

export interface MergedProgram {
  program: readonly ProgramOp[];
  /** Segment → its graph; of those that the program has beside the shards' own. */
  models: ReadonlyMap<string, Uint8Array>;
}

export function mergeProgram(
  { buffers, io, program }: Pick<Manifest, 'buffers' | 'io' | 'program'>,
  modelOf: (segment: string) => Uint8Array,
): MergedProgram {
  const ofRows = new Set(buffers.flatMap(({ first, name }) => (first === 'rows' ? [name] : [])));
  const makesRows = ({ outputs }: RunOp): boolean => Object.values(outputs).some((name) => ofRows.has(name));
  const merged: ProgramOp[] = [];
  const models = new Map<string, Uint8Array>();
  for (let at = 0; at < program.length; ) {
    const first = program[at];
    let [best, count]: [MergedGraph | null, number] = [null, 1];
    if (first?.op === 'run' && !makesRows(first)) {
      const run = runsFrom(program, at, makesRows);
      const parts = run.map((op): GraphPart => ({ ...op, model: modelOf(op.segment) }));
      for (let length = 2; length <= run.length; length++) {
        const kept = readElsewhere(program, io, at, length);
        const graph = mergeGraphs(parts.slice(0, length), kept);
        if (graph === null) break;
        [best, count] = [graph, length];
      }
    }
    const ops = program.slice(at, at + count);
    if (best === null) merged.push(...ops);
    else {
      const segment = ops.map((op) => (op.op === 'run' ? op.segment : '')).join('+');
      models.set(segment, best.model);
      merged.push({ op: 'run', segment, inputs: best.inputs, outputs: best.outputs });
    }
    at += count;
  }
  return { program: merged, models };
}

function runsFrom(program: readonly ProgramOp[], at: number, makesRows: (op: RunOp) => boolean): RunOp[] {
  const runs: RunOp[] = [];
  for (const op of program.slice(at)) {
    if (op.op !== 'run' || makesRows(op)) break;
    runs.push(op);
  }
  return runs;
}

/** Buffers that an op outside of these reads, or the step's end. */
function readElsewhere(
  program: readonly ProgramOp[],
  io: Manifest['io'],
  at: number,
  length: number,
): ReadonlySet<string> {
  const others = [...program.slice(0, at), ...program.slice(at + length)];
  return new Set([io.output, ...others.flatMap(readBy)]);
}

function readBy(op: ProgramOp): string[] {
  switch (op.op) {
    case 'run':
      return Object.values(op.inputs);
    case 'attend':
      // What it writes, it writes rows of.
      return [op.query, op.key, op.value, op.output];
    case 'all-reduce':
      return [op.partial];
    case 'pool':
      return [op.hidden];
  }
}
