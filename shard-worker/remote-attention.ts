/**
 * Attention on a remote device: a sequence at a time, over its slot's buffers of the layer, which the segment also writes the new rows to.
 *
 * In      the packed queries, keys and values of a step in the device's memory; which rows are whose
 * Out     the packed outputs, likewise. Nothing is read back: a step sends, for each of its sequences, how many rows it has, and, where
 *         there are several, which packed rows are its
 * Limits  as many queries a run as the device computes right (remote-attention-check.ts): a longer chunk attends piece by piece
 * Errors  UNSUPPORTED_PLATFORM from the check; an Error from ONNX Runtime; assertions
 *
 * A buffer is bound whole, so a sequence's rows are picked by their index and put back likewise, in place (proto/attend.ts). A
 * sequence that is alone in its step needs neither.
 */
import assert from 'node:assert/strict';
import { attendSegment } from '../proto/attend.js';
import type { Manifest } from '../proto/manifest.js';
import type {
  DeviceBuffer,
  LoadSegment,
  RemoteDevice,
  Segment,
  SegmentBinding,
  TensorHandle,
} from './device/device.js';
import { type AttentionSample, queriesTogether } from './remote-attention-check.js';
import type { RemoteKvCache } from './remote-kv-cache.js';
import type { Span } from './span.js';

/** A buffer of packed activations, float32 [tokens, columns]. */
export interface RemoteActivations {
  memory: DeviceBuffer;
  columns: number;
}

export interface RemoteAttentionOptions {
  device: RemoteDevice;
  kvCache: RemoteKvCache;
  manifest: Pick<Manifest, 'attend' | 'perRank' | 'program'>;
  query: RemoteActivations;
  key: RemoteActivations;
  value: RemoteActivations;
  output: RemoteActivations;
  maxStepTokens: number;
  loadSegment: LoadSegment;
}

/** Graph inputs of a sequence that is alone, in the order of a binding. */
const WHOLE_INPUTS = ['query', 'key', 'value', 'past-key', 'past-value', 'last', 'total'];
/** Those of one part among several. */
const PART_INPUTS = [...WHOLE_INPUTS, 'index', 'place', 'attended'];
const OUTPUTS = ['output', 'present-key', 'present-value'];
/** Where inputs begin. */
const Input = { PAST: 3, LAST: 5, TOTAL: 6, INDEX: 7, PLACE: 8, ATTENDED: 9 } as const;

interface Bound {
  segment: Segment;
  binding: SegmentBinding;
}

/** Some queries of a sequence, which attend in one run. */
type Piece = Pick<Span, 'count' | 'offset' | 'position'> & { slot: number };

/** What a piece has on the device. */
interface Place {
  /** int32 [1]: rows less one. */
  last: DeviceBuffer;
  lastTensor: TensorHandle;
  /** int32 [1], on the host: the operator reads it there. */
  total: Int32Array;
  totalTensor: TensorHandle;
  /** int64: its packed rows; null: none were needed yet. */
  index: DeviceBuffer | null;
}

export class RemoteAttention {
  readonly #options: RemoteAttentionOptions;
  readonly #byWindow = new Map<number | null, { alone: Bound; packed: Bound }>();
  readonly #places: Place[] = [];
  #queriesTogether = Number.POSITIVE_INFINITY;
  #pieces: Piece[] = [];
  /** Handles of this step: queries, keys, values, outputs; of several pieces a pair each, and the outputs as rows. */
  #tensors: TensorHandle[] = [];

  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(options: RemoteAttentionOptions) {
    this.#options = options;
    const { attend, program } = options.manifest;
    const load = (queries: 'alone' | 'packed', window: number | null, inputs: readonly string[]): Bound => {
      const name = attendSegment(attend, queries, window);
      assert(name !== undefined, `the shards have no attention for ${queries} with a window of ${window}`);
      const segment = options.loadSegment(name, inputs, OUTPUTS);
      return { segment, binding: segment.newBinding() };
    };
    const windows = new Set(program.flatMap((op) => (op.op === 'attend' ? [op.window] : [])));
    for (const window of windows) {
      const bound = {
        alone: load('alone', window, WHOLE_INPUTS),
        packed: load('packed', window, PART_INPUTS),
      };
      this.#byWindow.set(window, bound);
    }
    for (const window of windows) this.#check(window);
  }

  /** Queries of a sequence that attend in one run. */
  get queriesTogether(): number {
    return this.#queriesTogether;
  }

  /** Sends what the attention of a step's sequences needs. */
  begin(spans: readonly Span[]): void {
    const { kvCache } = this.#options;
    this.#pieces = spans.flatMap((span) => {
      kvCache.rowsToWrite(span.sequence.slot, span.position, span.count);
      return this.#cut(span);
    });
    this.#bindStep();
  }

  attendAll(_spans: readonly Span[], layer: number, window: number | null): void {
    const segments = this.#byWindow.get(window) ?? assert.fail(`a window of ${window}`);
    const isAlone = this.#pieces.length === 1;
    const { binding, segment } = isAlone ? segments.alone : segments.packed;
    const { kvCache } = this.#options;
    const tensors = this.#tensors;
    for (let input = 0; input < Input.PAST; input++) binding.setInput(input, tensors[input]!);
    const packed = isAlone ? tensors[Input.PAST]! : tensors.at(-1)!;
    if (!isAlone) binding.setInput(Input.ATTENDED, packed);
    binding.setOutput(0, packed);
    this.#pieces.forEach(({ slot }, index) => {
      const { keys, values } = kvCache.planes(slot, layer);
      const { lastTensor, totalTensor } = this.#places[index]!;
      binding.setInput(Input.PAST, keys);
      binding.setInput(Input.PAST + 1, values);
      binding.setInput(Input.LAST, lastTensor);
      binding.setInput(Input.TOTAL, totalTensor);
      if (!isAlone) {
        binding.setInput(Input.INDEX, tensors[4 + 2 * index]!);
        binding.setInput(Input.PLACE, tensors[5 + 2 * index]!);
      }
      // Past and present are the same memory: only new rows are written.
      binding.setOutput(1, keys);
      binding.setOutput(2, values);
      segment.run(binding);
    });
  }

  #cut({ count, offset, position, sequence: { slot } }: Span): Piece[] {
    const pieces: Piece[] = [];
    for (let done = 0; done < count; done += this.#queriesTogether) {
      const length = Math.min(count - done, this.#queriesTogether);
      pieces.push({ slot, count: length, offset: offset + done, position: position + done });
    }
    return pieces;
  }

  /** Handles and sizes of the pieces that there are. */
  #bindStep(): void {
    const { device, key, output, query, value } = this.#options;
    for (const tensor of this.#tensors) device.releaseTensor(tensor);
    const pieces = this.#pieces;
    const tokens = pieces.reduce((sum, { count }) => sum + count, 0);
    this.#tensors = [query, key, value, output].map(({ columns, memory }) =>
      device.tensor(memory, [1, tokens, columns]),
    );
    pieces.forEach((piece, index) => {
      const { count, position } = piece;
      this.#places[index] ??= this.#newPlace();
      const place = this.#places[index];
      place.total[0] = position + count;
      device.upload(place.last, Int32Array.of(position + count - 1), 1);
      if (pieces.length > 1) this.#tensors.push(...this.#sendIndex(place, piece));
    });
    if (pieces.length > 1) this.#tensors.push(device.tensor(output.memory, [tokens, output.columns]));
  }

  #newPlace(): Place {
    const { device } = this.#options;
    const last = device.allocate('int32', 1);
    // Not `new Int32Array(1)`, which the engine may move.
    const total = new Int32Array(new ArrayBuffer(4));
    return {
      last,
      lastTensor: device.tensor(last, [1]),
      total,
      totalTensor: device.hostTensor(total, 1, [1]),
      index: null,
    };
  }

  /** @returns handles of the packed rows, as [count] and [count, 1] */
  #sendIndex(place: Place, { count, offset }: Piece): TensorHandle[] {
    const { device } = this.#options;
    if (place.index === null || place.index.elements < count) {
      place.index?.free();
      place.index = device.allocate('int64', 2 ** Math.ceil(Math.log2(count)));
    }
    const rows = BigInt64Array.from({ length: count }, (_, row) => BigInt(offset + row));
    device.upload(place.index, rows, count);
    return [device.tensor(place.index, [count]), device.tensor(place.index, [count, 1])];
  }

  /** Known answers, by a slot that is free. */
  #check(window: number | null): void {
    const { device, key, kvCache, manifest, maxStepTokens, output, query, value } = this.#options;
    const { headDim, numHeads, numKvHeads } = manifest.perRank;
    const { cacheType: type = 'float32', softCap = null } = manifest.attend;
    const shape = { headDim, numHeads, numKvHeads, window, softCap, type };
    const slot = 0;
    const attend = (sample: AttentionSample): Float32Array => {
      const { tokens } = sample;
      kvCache.open(slot);
      for (const [{ memory }, values] of [
        [query, sample.query],
        [key, sample.key],
        [value, sample.value],
      ] as const) {
        device.upload(memory, values, values.length);
      }
      this.#pieces = [{ slot, count: tokens, offset: 0, position: 0 }];
      this.#bindStep();
      this.attendAll([], 0, window);
      const out = new Float32Array(tokens * output.columns);
      device.download(output.memory, out, out.length);
      kvCache.close(slot);
      return out;
    };
    const most = Math.min(maxStepTokens, kvCache.slotTokens);
    this.#queriesTogether = Math.min(this.#queriesTogether, queriesTogether(shape, most, attend));
  }
}
