/**
 * One rank's attention over cold rows, in a thread of its own (attention.ts).
 *
 * In      AttentionWork
 * Out     AttentionTimes
 * How     shard-worker's own cache and attention, without executor and device; a plain read is the C library's memchr, a call a layer as
 *         attention is
 */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { kvRowBytes } from '../../proto/kv-rows.js';
import type { HostDevice } from '../../shard-worker/device/device.js';
import { KvCache, type KvType } from '../../shard-worker/kv-cache.js';
import { loadKernels } from '../../shard-worker/native/kernels.js';
import { NativeMemory } from '../../shard-worker/native/native-memory.js';
import { NativeAttention } from '../../shard-worker/native-attention.js';
import type { Span } from '../../shard-worker/span.js';

export interface AttentionWork {
  heads: number;
  kvHeads: number;
  dim: number;
  type: KvType;
  rows: number;
  /** Sequences of a step, in one call. */
  sequences: number;
  /** Rows that each but the first sees. */
  others: number;
  /** What all sequences' rows take. */
  bytes: number;
  rounds: number;
  /** Threads that have come to a turn, over all turns. */
  turns: Int32Array;
  threads: number;
}

/** Microseconds a layer, by round and sequence. */
export interface AttentionTimes {
  us: number[];
  readUs: number[];
  /** Keys and values of a layer. */
  layerBytes: number;
}

/** Enough that a sequence's turn takes some milliseconds. */
const LAYERS = 22;

const { bytes, dim, heads, kvHeads, others, rounds, rows, sequences, threads, turns, type } =
  workerData as AttentionWork;
const kernels = loadKernels();
assert(kernels, 'our own kernels');
const device = { reserve: (size: number) => new NativeMemory(size) } as unknown as HostDevice;
const layerBytes = 2 * kvHeads * (rows + (sequences - 1) * others) * kvRowBytes(type, dim);
const steps = Math.max(2, Math.ceil(bytes / (LAYERS * layerBytes)));
const slots = steps * sequences;
const most = Math.max(rows, others);
const rowsOf = (slot: number): number => (slot % sequences === 0 ? rows : others);
// A row more: the token that attends is written behind those that it sees.
const sizes = { numLayers: LAYERS, numKvHeads: kvHeads, headDim: dim, slotTokens: most, maxSlots: slots };
const kvCache = new KvCache({ ...sizes, device, type });
const tokens = Math.max(16, sequences);
const activations = (columns: number) => ({ memory: new NativeMemory(tokens * columns * 4), columns });
const [query, key, value, output] = [heads * dim, kvHeads * dim, kvHeads * dim, heads * dim].map(activations);
assert(query && key && value && output);
for (const { columns, memory } of [query, key, value]) {
  const floats = memory.float32(0, tokens * columns);
  for (let index = 0; index < floats.length; index++) floats[index] = Math.sin(index * 12.9898);
}
const attention = new NativeAttention({
  ...{ kernels, device, kvCache, query, key, value, output, maxSpans: sequences },
  manifest: {
    attend: { variants: [], keysIn: 'slot' },
    perRank: { numHeads: heads, numKvHeads: kvHeads, headDim: dim, vocab: 1 },
  },
});
const spanOf = (slot: number, position: number, count: number): Span[] => [
  { sequence: { slot } as Span['sequence'], offset: 0, count, position, outputRows: 1 },
];

/** All threads go on together. */
let turn = 0;
function meet(): void {
  turn++;
  Atomics.add(turns, 0, 1);
  while (Atomics.load(turns, 0) < threads * turn);
}

for (let slot = 0; slot < slots; slot++) {
  kvCache.open(slot);
  for (let layer = 0; layer < LAYERS; layer++) {
    // The rows are written by many queries at once; what they attend to does not matter.
    for (let row = 0; row < rowsOf(slot); row += 16) {
      attention.attendAll(spanOf(slot, row, Math.min(16, rowsOf(slot) - row)), layer, 1);
    }
  }
}
const plain = Buffer.alloc(steps * LAYERS * layerBytes, 1);
const us: number[] = [];
const readUs: number[] = [];
for (let round = 0; round < rounds; round++) {
  for (let step = 0; step < steps; step++) {
    const spans = Array.from({ length: sequences }, (_, offset): Span => {
      const slot = step * sequences + offset;
      return {
        sequence: { slot } as Span['sequence'],
        offset,
        count: 1,
        position: rowsOf(slot) - 1,
        outputRows: 1,
      };
    });
    meet();
    const started = performance.now();
    for (let layer = 0; layer < LAYERS; layer++) attention.attendAll(spans, layer, null);
    us.push(((performance.now() - started) * 1000) / LAYERS);
    meet();
    const pieces = Array.from({ length: LAYERS }, (_, layer) => {
      const at = (step * LAYERS + layer) * layerBytes;
      return plain.subarray(at, at + layerBytes);
    });
    const reading = performance.now();
    for (const piece of pieces) piece.indexOf(0);
    readUs.push(((performance.now() - reading) * 1000) / LAYERS);
  }
}
const times: AttentionTimes = { us, readUs, layerBytes };
parentPort?.postMessage(times);
