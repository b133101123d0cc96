/**
 * Attention by our own kernels: one call a layer for all sequences of a step, which writes their new keys and values into the cache, too.
 *
 * What a token attends to is the same to the bit alone, beside others, in a prompt cut anywhere and behind a prefix hit (kernels/attention_rows.h).
 * Sinks are the query's column alone and positions are counted here, so the cache holds neither: no row before a plane's first, and halves
 * are as good for ALiBi as floats.
 *
 * Limits  heads of 1,024 columns
 * Errors  assertions: sizes come from the manifest
 */
import assert from 'node:assert/strict';
import type { Manifest } from '../proto/manifest.js';
import type { Activations } from './attention.js';
import type { HostDevice, HostMemory } from './device/device.js';
import type { KvCache } from './kv-cache.js';
import { AttendWork, type Kernels } from './native/kernels.js';
import type { Span } from './span.js';
import { pieceStart, spanPieces } from './span-pieces.js';

/** SsAttention of kernels.h: six doubles, eight ints, a float and a gap. */
const SHAPE_BYTES = 6 * 8 + 10 * 4;
/** Where its sixth double is, `capacity`. */
const CAPACITY_AT = 5 * 8;
/** SsKvType of kernels.h. */
const KV_TYPES = { fp32: 0, fp16: 1, int8: 2 } as const;
/** Doubles of an SsAttendSpan. */
const SPAN_NUMBERS = 4;

export interface NativeAttentionOptions {
  kernels: Pick<Kernels, 'attend' | 'attendScratch'>;
  device: HostDevice;
  kvCache: KvCache;
  manifest: Pick<Manifest, 'attend' | 'perRank'>;
  query: Activations;
  key: Activations;
  value: Activations;
  output: Activations;
  /** Spans in a step. */
  maxSpans: number;
  /** SsAttendVariant, for tests; absent: the best. */
  variant?: number;
}

export class NativeAttention {
  readonly #kernels: NativeAttentionOptions['kernels'];
  readonly #kvCache: KvCache;
  readonly #keepsRows: boolean;
  /** A value is its key. */
  readonly #isOnePlane: boolean;
  /** An SsAttention. */
  readonly #shape: DataView;
  readonly #spans: Float64Array;
  readonly #shapeAddress: number;
  readonly #spansAddress: number;
  readonly #scratchAddress: number;

  constructor(options: NativeAttentionOptions) {
    const { device, kernels, kvCache, manifest } = options;
    this.#kernels = kernels;
    this.#kvCache = kvCache;
    this.#keepsRows = manifest.attend.keysIn === 'slot';
    this.#isOnePlane = manifest.attend.valuesAreKeys === true;
    assert(!this.#isOnePlane || manifest.perRank.numKvHeads === 1, 'latents are one head');
    const scratchBytes = kernels.attendScratch(manifest.perRank.headDim);
    assert(scratchBytes > 0, `heads of ${manifest.perRank.headDim}`);
    const shape = device.reserve(SHAPE_BYTES);
    const spans = device.reserve(options.maxSpans * SPAN_NUMBERS * 8);
    this.#spans = new Float64Array(spans.float32(0, options.maxSpans * SPAN_NUMBERS * 2).buffer);
    this.#shapeAddress = addressOf(shape);
    this.#spansAddress = addressOf(spans);
    this.#scratchAddress = addressOf(device.reserve(scratchBytes));
    this.#shape = new DataView(shape.float32(0, SHAPE_BYTES / 4).buffer);
    describe(this.#shape, options);
  }

  /**
   * @param window tokens a query sees, itself included; null: all
   * @param piece tokens of the pieces that a text is cut into; null: it is not
   */
  attendAll(spans: readonly Span[], layer: number, window: number | null, piece: number | null = null): void {
    if (piece === null) {
      this.#attend(spans, layer, window, 0);
      return;
    }
    const byStart = new Map<number, Span[]>();
    for (const part of spans.flatMap((span) => spanPieces(span, piece))) {
      const start = pieceStart(part.position, piece);
      byStart.set(start, [...(byStart.get(start) ?? []), part]);
    }
    // A sequence's rows are written in order.
    const starts = [...byStart].sort(([a], [b]) => a - b);
    for (const [start, parts] of starts) this.#attend(parts, layer, window, start);
  }

  /** @param start position of the first row that is seen, and counted from */
  #attend(spans: readonly Span[], layer: number, window: number | null, start: number): void {
    const numbers = this.#spans;
    const { planeBytes, rowBytes, slotTokens } = this.#kvCache;
    // Where a value is its key the layers' planes are not the kernel's.
    const before = start * rowBytes + (this.#isOnePlane ? layer * planeBytes : 0);
    let at = 0;
    for (const { count, offset, position, sequence } of spans) {
      numbers[at++] = offset;
      numbers[at++] = count;
      numbers[at++] = position - start;
      if (this.#keepsRows) {
        numbers[at++] = this.#kvCache.rowsToWrite(sequence.slot, position, count) + before;
      } else {
        assert(position === 0, 'a text attends in one piece');
        numbers[at++] = 0;
      }
    }
    this.#shape.setFloat64(CAPACITY_AT, slotTokens - start, true);
    const work = AttendWork.WRITE | AttendWork.READ;
    const [shape, list, scratch] = [this.#shapeAddress, this.#spansAddress, this.#scratchAddress];
    const ofKernel = this.#isOnePlane ? 0 : layer;
    const code = this.#kernels.attend(shape, list, spans.length, ofKernel, window ?? 0, work, 0, 1, scratch);
    assert.equal(code, 0, 'attention');
  }
}

function addressOf(memory: HostMemory): number {
  assert(memory.address !== undefined, 'memory of this process');
  return memory.address;
}

/** Writes an SsAttention. */
function describe(view: DataView, options: NativeAttentionOptions): void {
  const { kvCache, manifest, variant = 0 } = options;
  const { attend, perRank } = manifest;
  const doubles = [
    ...[options.query, options.key, options.value, options.output].map(({ memory }) => addressOf(memory)),
    // Without a way from one to the next, keys and values lie in one plane.
    ...[attend.valuesAreKeys === true ? 0 : kvCache.planeBytes, kvCache.slotTokens],
  ];
  const ints = [
    ...[perRank.numHeads, perRank.numKvHeads, perRank.headDim],
    ...[KV_TYPES[kvCache.type], attend.keysIn === 'step' ? 1 : 0],
    ...[attend.sinkColumn ?? -1, attend.positionColumn ?? -1, variant],
  ];
  doubles.forEach((value, index) => {
    view.setFloat64(8 * index, value, true);
  });
  ints.forEach((value, index) => {
    view.setInt32(8 * doubles.length + 4 * index, value, true);
  });
  view.setFloat32(8 * doubles.length + 4 * ints.length, attend.softCap ?? 0, true);
}
