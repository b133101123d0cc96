/**
 * A checkpoint as the model's roles: parts of fused tensors, transposed ones and scaled ones read as tensors of their own.
 *
 * In      TensorSource of the checkpoint, the views (role-tensors.ts)
 * Out     TensorSource that has the views besides the checkpoint's tensors
 * Limits  memory: the rows asked for; for a transposed tensor, and a matrix of a stack, all of it (one at a time)
 * Errors  as the source below
 */
import assert from 'node:assert/strict';
import {
  type CodedInfo,
  type CodedRows,
  checkRowRange,
  type Halves,
  readCodes,
  requireTensor,
  rowShape,
  type SourceFile,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

/** What is read as a tensor called `name`. */
export interface TensorView {
  name: string;
  shape: readonly number[];
  /** One tensor; or one a row, below each other. */
  sources: readonly { name: string; shape: readonly number[] }[];
  /** The matrix (or row of biases) of a stack that is meant by the tensor; null: the tensor itself. */
  matrix?: number | null;
  /** Rows of the tensor: `units` units of `unitRows` rows, from the `firstUnit`-th on, of every `groupUnits`; null: all. */
  rows: { unitRows: number; groupUnits: number; firstUnit: number; units: number } | null;
  /** Matrices of heads, the rows of a group each; turned: of which these are the columns. Read as floats, never as codes. */
  ofHeads?: 'upright' | 'turned' | undefined;
  transposed: boolean;
  /** value · factor + addend */
  factor: number;
  addend: number;
}

/** @param views those whose name is a tensor of the source are that tensor */
export function viewSource(source: TensorSource, views: readonly TensorView[]): TensorSource {
  return new ViewSource(source, views);
}

/** The source with other names: what matches is replaced. */
export function renamedSource(
  source: TensorSource,
  renames: readonly (readonly [RegExp, string])[],
): TensorSource {
  if (renames.length === 0) return source;
  const original = new Map<string, string>();
  const renamed = (name: string): string => {
    const found = renames.reduce((text, [pattern, by]) => text.replace(pattern, by), name);
    original.set(found, name);
    return found;
  };
  const tensors = new Map([...source.tensors].map(([name, info]) => [renamed(name), { ...info, name }]));
  const unsupported = new Map(
    [...(source.unsupported ?? [])].map(([name, type]): [string, string] => [renamed(name), type]),
  );
  const back = (name: string): string => original.get(name) ?? name;
  const { coded, needless } = source;
  return {
    ...(coded ? { coded: new Map([...coded].map(([name, info]) => [renamed(name), info])) } : {}),
    ...(needless ? { needless: new Set([...needless].map(renamed)) } : {}),
    readCodes: (name, start, end) => readCodes(source, back(name), start, end),
    tensors,
    unsupported,
    files: source.files,
    readFloat32: (name, start, end, into) => source.readFloat32(back(name), start, end, into),
    readHalves: (name, start, end, into) => source.readHalves?.(back(name), start, end, into) ?? null,
    readBytes: (name, start, end) => source.readBytes(back(name), start, end),
    close: () => source.close(),
  };
}

class ViewSource implements TensorSource {
  readonly tensors: Map<string, TensorInfo>;
  readonly unsupported: ReadonlyMap<string, string>;
  readonly files: readonly SourceFile[];
  readonly coded: Map<string, CodedInfo>;
  readonly #views = new Map<string, TensorView>();
  /** The last matrix that was transposed or of a stack, as [rows, columns]: its rows are asked for in many ranges. */
  #kept: { key: string; values: Float32Array } | null = null;

  readonly #source: TensorSource;

  constructor(source: TensorSource, views: readonly TensorView[]) {
    this.#source = source;
    this.tensors = new Map(source.tensors);
    this.unsupported = source.unsupported ?? new Map();
    this.files = source.files;
    this.coded = new Map(source.coded);
    for (const view of views) {
      if (source.tensors.has(view.name)) continue;
      const [first] = view.sources;
      assert(first, `${view.name} is made of nothing`);
      const { type } = requireTensor(source, first.name);
      this.#views.set(view.name, view);
      const coded = source.coded?.get(first.name);
      if (coded && view.ofHeads === undefined) this.coded.set(view.name, coded);
      this.tensors.set(view.name, { name: view.name, type, shape: view.shape });
    }
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const view = this.#views.get(name);
    if (!view) return this.#source.readFloat32(name, rowStart, rowEnd, into);
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    if (view.ofHeads === 'turned') this.#readTurned(view, rowStart, rowEnd, values);
    else if (view.transposed || isStacked(view)) this.#readKept(view, rowStart, rowEnd, values);
    else if (view.sources[0]?.shape.length !== view.shape.length)
      this.#readJoined(view, rowStart, rowEnd, values);
    else this.#readPicked(view, rowStart, rowEnd, values);
    const { factor, addend } = view;
    if (factor !== 1 || addend !== 0) {
      for (let index = 0; index < values.length; index++) values[index] = values[index]! * factor + addend;
    }
    return values;
  }

  readHalves(name: string, rowStart: number, rowEnd: number, into: Uint16Array): Halves | null {
    // A view is more than a name.
    if (this.#views.has(name)) return null;
    return this.#source.readHalves?.(name, rowStart, rowEnd, into) ?? null;
  }

  readCodes(name: string, rowStart: number, rowEnd: number): CodedRows {
    const view = this.#views.get(name);
    if (!view) return readCodes(this.#source, name, rowStart, rowEnd);
    assert(!view.transposed && !isStacked(view) && view.addend === 0, `${name} is not in codes`);
    const pieces = runsOf(view, rowStart, rowEnd).map(({ first, count }) =>
      readCodes(this.#source, view.sources[0]!.name, first, first + count),
    );
    const scales = Float32Array.from(pieces.flatMap((piece) => [...piece.scales]));
    return {
      packed: Buffer.concat(pieces.map((piece) => piece.packed)),
      scales: view.factor === 1 ? scales : scales.map((scale) => scale * view.factor),
      zeroPoints: joined(pieces.map((piece) => piece.zeroPoints)),
    };
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    assert(!this.#views.has(name), `${name} is no tensor of the checkpoint, it has no bytes of its own`);
    return this.#source.readBytes(name, rowStart, rowEnd);
  }

  close(): void {
    this.#kept = null;
    this.#source.close();
  }

  /** Runs of neighbouring rows: one group's units each. */
  #readPicked(view: TensorView, rowStart: number, rowEnd: number, values: Float32Array): void {
    const { name } = view.sources[0]!;
    const { rowElements } = rowShape(view.shape);
    let done = 0;
    for (const { first, count } of runsOf(view, rowStart, rowEnd)) {
      const into = values.subarray(done * rowElements, (done + count) * rowElements);
      this.#source.readFloat32(name, first, first + count, into);
      done += count;
    }
  }

  /** Rows of a head are columns of its group's rows. */
  #readTurned(view: TensorView, rowStart: number, rowEnd: number, values: Float32Array): void {
    const [, columns = 1] = view.sources[0]!.shape;
    const width = rowShape(view.shape).rowElements;
    for (let row = rowStart; row < rowEnd; ) {
      const head = Math.floor(row / columns);
      const matrix = this.#turnedHead(view, head, width, columns);
      const count = Math.min(rowEnd, (head + 1) * columns) - row;
      const from = (row - head * columns) * width;
      values.set(matrix.subarray(from, from + count * width), (row - rowStart) * width);
      row += count;
    }
  }

  #turnedHead(view: TensorView, head: number, width: number, columns: number): Float32Array {
    const key = `${view.name}/${head}`;
    if (this.#kept?.key === key) return this.#kept.values;
    const upright = new Float32Array(width * columns);
    this.#readPicked({ ...view, shape: [0, columns] }, head * width, (head + 1) * width, upright);
    const values = turned(upright, width, columns);
    this.#kept = { key, values };
    return values;
  }

  #readJoined(view: TensorView, rowStart: number, rowEnd: number, values: Float32Array): void {
    const { rowElements } = rowShape(view.shape);
    for (let row = rowStart; row < rowEnd; row++) {
      const { name, shape } = view.sources[row]!;
      const at = (row - rowStart) * rowElements;
      this.#source.readFloat32(name, 0, rowShape(shape).rows, values.subarray(at, at + rowElements));
    }
  }

  #readKept(view: TensorView, rowStart: number, rowEnd: number, values: Float32Array): void {
    const { rowElements } = rowShape(view.shape);
    const matrix = this.#keep(view);
    const height = matrix.length / rowElements;
    const { unitRows, groupUnits, firstUnit, units } = view.rows ?? {
      unitRows: height,
      groupUnits: 1,
      firstUnit: 0,
      units: 1,
    };
    const runRows = units * unitRows;
    for (let row = rowStart; row < rowEnd; row++) {
      const group = Math.floor(row / runRows);
      const from = ((group * groupUnits + firstUnit) * unitRows + (row - group * runRows)) * rowElements;
      values.set(matrix.subarray(from, from + rowElements), (row - rowStart) * rowElements);
    }
  }

  /** The whole matrix that the view is of, with its outputs as rows. */
  #keep(view: TensorView): Float32Array {
    const [source] = view.sources;
    assert(source);
    const key = `${source.name}/${view.matrix ?? ''}`;
    if (this.#kept?.key === key) return this.#kept.values;
    this.#kept = null; // its memory is free before the next one's is taken
    const size = isStacked(view) ? source.shape.slice(1) : source.shape;
    const [columns = 1, height = 1] = size;
    const stored = isStacked(view)
      ? this.#source.readFloat32(source.name, view.matrix ?? 0, (view.matrix ?? 0) + 1)
      : this.#source.readFloat32(source.name, 0, columns);
    const values = view.transposed ? turned(stored, columns, height) : stored;
    this.#kept = { key, values };
    return values;
  }
}

/** Neighbouring rows of the source, one group's units each, that are rows [rowStart, rowEnd) of the view. */
function runsOf(view: TensorView, rowStart: number, rowEnd: number): { first: number; count: number }[] {
  if (view.rows === null) return [{ first: rowStart, count: rowEnd - rowStart }];
  const { unitRows, groupUnits, firstUnit, units } = view.rows;
  const runRows = units * unitRows;
  const runs: { first: number; count: number }[] = [];
  for (let row = rowStart; row < rowEnd; ) {
    const group = Math.floor(row / runRows);
    const count = Math.min(rowEnd, (group + 1) * runRows) - row;
    runs.push({ first: (group * groupUnits + firstUnit) * unitRows + (row - group * runRows), count });
    row += count;
  }
  return runs;
}

function joined(pieces: readonly (Uint8Array | Float32Array)[]): Uint8Array | Float32Array {
  if (pieces.every((piece) => piece instanceof Uint8Array)) return Buffer.concat(pieces);
  return Float32Array.from(pieces.flatMap((piece) => [...piece]));
}

const isStacked = ({ matrix = null }: TensorView): boolean => matrix !== null;

/** [columns, height] → [height, columns] */
function turned(stored: Float32Array, columns: number, height: number): Float32Array {
  const values = new Float32Array(stored.length);
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < height; row++) values[row * columns + column] = stored[column * height + row]!;
  }
  return values;
}
