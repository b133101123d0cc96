/**
 * Attention of one sequence over its slot: writes the step's new keys and values into the cache, then runs a segment over
 * views of the rows there are, not over a whole masked slot, a KV head each (manifest: attendOp).
 *
 * A single token's views are kept, and reach to a multiple of VIEW_ROWS: a handle costs as much as reading hundreds of rows,
 * the rows behind the last are zeros and don't count. A sliding window is passed as the last rows. A chunk of several queries
 * whose windows differ can't be one causal view: it runs the masked segment.
 *
 * A chunk attends QUERIES_TOGETHER at a time: a view ends with the last of them, so that few scores are computed only to be masked.
 *
 * With sinks the view begins one row earlier, and that row is the sinks' while the segment runs (manifest: attend.sinkColumn).
 * Elsewhere it is a token's that the window has left behind, so it is put back: a slot's rows may be read again.
 *
 * Errors  an Error from ONNX Runtime; assertions
 */
import type { HostDevice, HostMemory, Segment, SegmentBinding, TensorHandle } from './device/device.js';
import { type KvCache, Plane } from './kv-cache.js';
import type { Span } from './span.js';
import { pieceStart } from './span-pieces.js';

/** A buffer of packed activations, float32 [tokens, columns]. */
export interface Activations {
  memory: HostMemory;
  columns: number;
}

/** Segments of the manifest's `attend`, their inputs in the order of attendInputs and tokenInputs. */
export interface AttendSegments {
  chunk: Segment;
  masked: Segment;
  token: Segment;
}

/** A single packed row's: each KV head's queries and outputs. */
interface RowViews {
  queries: TensorHandle[];
  outputs: TensorHandle[];
}

/** Views of a layer of a slot: keys and values of each KV head in turn. */
interface CacheViews {
  first: number;
  rows: number;
  handles: TensorHandle[];
}

/** Handles of query and output rows that are kept: decode steps use the same ones again and again. */
const MAX_KEPT_VIEWS = 4096;
/** A single token's view of the cache has a multiple of so many rows. */
const VIEW_ROWS = 16;
/** Queries of a chunk that attend in one run. Their scores should fit the processor's cache, too. */
const QUERIES_TOGETHER = 64;
/** Added to the score of a token that a query may not see. */
const MASKED = -3.4e38;

const PLANES = [Plane.KEY, Plane.VALUE] as const;

/** Graph inputs of several tokens' attention, in the order of a binding; `mask` comes last. */
export const attendInputs = (numKvHeads: number): string[] => [
  'length',
  'query',
  ...Array.from({ length: numKvHeads }, (_, head) => [`key-${head}`, `value-${head}`]).flat(),
];

/** Graph inputs of one token's attention, in the order of a binding. */
export const tokenInputs = (numKvHeads: number): string[] => [
  'length',
  ...Array.from({ length: numKvHeads }, (_, head) => [
    `query-${head}`,
    `key-${head}`,
    `value-${head}`,
  ]).flat(),
];

export const tokenOutputs = (numKvHeads: number): string[] =>
  Array.from({ length: numKvHeads }, (_, head) => `output-${head}`);

/** How far back queries of a layer see. */
export interface Seen {
  window: number | null;
  piece: number | null;
}

export class Attention {
  readonly #device: HostDevice;
  readonly #kvCache: KvCache;
  readonly #segments: AttendSegments;
  readonly #bindings: Record<keyof AttendSegments, SegmentBinding>;
  readonly #length: BigInt64Array;
  readonly #query: Activations;
  readonly #output: Activations;
  readonly #maskMemory: HostMemory;
  readonly #sinkColumn: number | null;
  /** What lies where the sinks' row goes: a row of each plane of a layer. */
  readonly #covered: Float32Array;
  /** By packed row. */
  readonly #rowViews = new Map<number, RowViews>();
  /** By slot · layers + layer. */
  readonly #cacheViews: (CacheViews | undefined)[];

  constructor(options: {
    device: HostDevice;
    kvCache: KvCache;
    segments: AttendSegments;
    query: Activations;
    output: Activations;
    maxStepTokens: number;
    /** Column of a head in which the sinks' key is 1; null: no sinks. */
    sinkColumn: number | null;
  }) {
    const { device, kvCache, segments } = options;
    this.#device = device;
    this.#kvCache = kvCache;
    this.#segments = segments;
    this.#query = options.query;
    this.#output = options.output;
    this.#sinkColumn = options.sinkColumn;
    this.#bindings = {
      chunk: segments.chunk.newBinding(),
      masked: segments.masked.newBinding(),
      token: segments.token.newBinding(),
    };
    const lengthMemory = device.reserve(8);
    this.#length = lengthMemory.bigInt64(0, 1);
    const length = device.tensor(lengthMemory, 0, 'int64', [1]);
    for (const binding of Object.values(this.#bindings)) binding.setInput(0, length);
    this.#maskMemory = device.reserve(options.maxStepTokens * (kvCache.slotTokens + 1) * 4);
    this.#covered = new Float32Array(2 * kvCache.numKvHeads * kvCache.headDim);
    this.#cacheViews = new Array<undefined>(kvCache.maxSlots * kvCache.numLayers).fill(undefined);
  }

  /**
   * @param span within one piece
   * @param seen window: tokens a query sees, itself included; null: all. piece: tokens of a text's pieces; null: it is whole
   * @param newKeys float32 [tokens, kvColumns], likewise newValues
   */
  attend(span: Span, layer: number, seen: Seen, newKeys: Float32Array, newValues: Float32Array): void {
    const { slot } = span.sequence;
    const cache = this.#kvCache;
    cache.write(slot, layer, Plane.KEY, span.position, newKeys, span.offset, span.count);
    cache.write(slot, layer, Plane.VALUE, span.position, newValues, span.offset, span.count);
    for (let done = 0; done < span.count; done += QUERIES_TOGETHER) {
      const count = Math.min(QUERIES_TOGETHER, span.count - done);
      this.#attendQueries(
        { ...span, offset: span.offset + done, position: span.position + done, count },
        layer,
        seen,
      );
    }
  }

  /** Some of a span's tokens, over rows that are all written. */
  #attendQueries(span: Span, layer: number, { piece, window }: Seen): void {
    const { slot } = span.sequence;
    const end = span.position + span.count;
    // The first query is the one that sees furthest back.
    const least = pieceStart(span.position, piece);
    const start = window === null ? least : Math.max(least, span.position + 1 - window);
    const first = this.#sinkColumn === null ? start : start - 1;
    this.#length[0] = BigInt(end - first);
    this.#cover(slot, layer, first);
    try {
      if (span.count === 1) this.#runToken(span, layer, first, end);
      else this.#runChunk(span, layer, window, { start, first, end });
    } finally {
      this.#uncover(slot, layer, first);
    }
  }

  #runToken(span: Span, layer: number, first: number, end: number): void {
    const reach = Math.ceil((end - first) / VIEW_ROWS) * VIEW_ROWS;
    const rows = Math.min(reach, this.#kvCache.slotTokens - first);
    const handles = this.#viewsOf(span.sequence.slot, layer, first, rows);
    const { queries, outputs } = this.#rowViewsOf(span.offset);
    const binding = this.#bindings.token;
    for (let head = 0; head < queries.length; head++) {
      const input = 1 + 3 * head;
      binding.setInput(input, queries[head] ?? 0);
      binding.setInput(input + 1, handles[2 * head] ?? 0);
      binding.setInput(input + 2, handles[2 * head + 1] ?? 0);
      binding.setOutput(head, outputs[head] ?? 0);
    }
    this.#segments.token.run(binding);
  }

  #runChunk(
    span: Span,
    layer: number,
    window: number | null,
    { start, first, end }: { start: number; first: number; end: number },
  ): void {
    const rows = end - first;
    const needsMask = window !== null && end - start > window;
    const kind = needsMask ? 'masked' : 'chunk';
    const binding = this.#bindings[kind];
    const handles = this.#viewsOf(span.sequence.slot, layer, first, rows);
    const held = [this.#packedView(this.#query, span), this.#packedView(this.#output, span)] as const;
    const mask = needsMask ? this.#windowMask(span, start, first, rows, window) : null;
    binding.setInput(1, held[0]);
    handles.forEach((handle, plane) => {
      binding.setInput(2 + plane, handle);
    });
    if (mask !== null) binding.setInput(2 + handles.length, mask);
    binding.setOutput(0, held[1]);
    try {
      this.#segments[kind].run(binding);
    } finally {
      for (const handle of held) this.#device.releaseTensor(handle);
      if (mask !== null) this.#device.releaseTensor(mask);
    }
  }

  /** Puts the sinks' row into the cache. @param row −1: nothing is there */
  #cover(slot: number, layer: number, row: number): void {
    if (this.#sinkColumn === null) return;
    this.#eachPlane((plane, head, at) => {
      const values = this.#kvCache.row(slot, layer, plane, head, row);
      this.#covered.set(values, at);
      values.fill(0);
      if (plane === Plane.KEY) values[this.#sinkColumn ?? 0] = 1;
    });
  }

  #uncover(slot: number, layer: number, row: number): void {
    if (this.#sinkColumn === null) return;
    const { headDim } = this.#kvCache;
    this.#eachPlane((plane, head, at) => {
      const covered = this.#covered.subarray(at, at + headDim);
      this.#kvCache.row(slot, layer, plane, head, row).set(covered);
    });
  }

  #eachPlane(visit: (plane: Plane, head: number, at: number) => void): void {
    const { headDim, numKvHeads } = this.#kvCache;
    for (let head = 0; head < numKvHeads; head++) {
      for (const plane of PLANES) visit(plane, head, (2 * head + plane) * headDim);
    }
  }

  /** Rows of a layer's planes, keys and values of each KV head in turn; the last ones asked for are kept. */
  #viewsOf(slot: number, layer: number, first: number, rows: number): readonly TensorHandle[] {
    const { headDim, numLayers } = this.#kvCache;
    const index = slot * numLayers + layer;
    const kept = this.#cacheViews[index];
    if (kept !== undefined && kept.first === first && kept.rows === rows) return kept.handles;
    this.#cacheViews[index] = undefined;
    for (const handle of kept?.handles ?? []) this.#device.releaseTensor(handle);
    const handles: TensorHandle[] = [];
    this.#eachPlane((plane, head) => {
      const { memory, byteOffset } = this.#kvCache.location(slot, layer, plane, head, first);
      handles.push(this.#device.tensor(memory, byteOffset, 'float32', [1, rows, headDim]));
    });
    this.#cacheViews[index] = { first, rows, handles };
    return handles;
  }

  #rowViewsOf(offset: number): RowViews {
    const kept = this.#rowViews.get(offset);
    if (kept !== undefined) return kept;
    const { numKvHeads } = this.#kvCache;
    if ((this.#rowViews.size + 1) * 2 * numKvHeads > MAX_KEPT_VIEWS) this.#releaseRowViews();
    const views = {
      queries: this.#headViews(this.#query, offset),
      outputs: this.#headViews(this.#output, offset),
    };
    this.#rowViews.set(offset, views);
    return views;
  }

  #releaseRowViews(): void {
    for (const { queries, outputs } of this.#rowViews.values()) {
      for (const view of [...queries, ...outputs]) this.#device.releaseTensor(view);
    }
    this.#rowViews.clear();
  }

  /** One packed row as [1, heads, headDim] of each KV head. */
  #headViews({ memory, columns }: Activations, offset: number): TensorHandle[] {
    const { headDim, numKvHeads } = this.#kvCache;
    const part = columns / numKvHeads;
    return Array.from({ length: numKvHeads }, (_, head) =>
      this.#device.tensor(memory, (offset * columns + head * part) * 4, 'float32', [
        1,
        part / headDim,
        headDim,
      ]),
    );
  }

  /** Rows of the span in an activation buffer, as [1, count, columns]. */
  #packedView({ memory, columns }: Activations, { offset, count }: Span): TensorHandle {
    return this.#device.tensor(memory, offset * columns * 4, 'float32', [1, count, columns]);
  }

  /**
   * float32 [count, rows]: 0 where query position q may see key position k, q − window < k ≤ q. Rows before `start` are seen
   * by all.
   */
  #windowMask(span: Span, start: number, first: number, rows: number, window: number): TensorHandle {
    const mask = this.#maskMemory.float32(0, span.count * rows);
    for (let query = 0; query < span.count; query++) {
      const position = span.position + query;
      for (let row = 0; row < rows; row++) {
        const key = first + row;
        const seen = key < start || (key <= position && key > position - window);
        mask[query * rows + row] = seen ? 0 : MASKED;
      }
    }
    return this.#device.tensor(this.#maskMemory, 0, 'float32', [span.count, rows]);
  }
}
