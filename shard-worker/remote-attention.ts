/**
 * Attention on a remote device: each sequence over its slot's buffers of the layer, which the segment also writes the new rows to; up to
 * PIECES_TOGETHER sequences a run.
 *
 * In      the packed queries, keys and values of a step in the device's memory; which rows are whose
 * Out     the packed outputs, likewise. Nothing is read back: a step sends, for each of its sequences, how many rows it has, and, where
 *         there are several, which packed rows are its
 * Limits  as many queries a run as the device computes right (remote-attention-check.ts): a longer chunk attends piece by piece
 * Errors  UNSUPPORTED_PLATFORM from the check; an Error from ONNX Runtime; assertions
 *
 * A buffer is bound whole, so a sequence's rows are picked by their index and put back likewise, in place (proto/attend.ts). A
 * sequence that is alone in its step needs neither. The graph of several is that of one, several times over (ort/merge-graphs.ts), each of
 * which puts its rows into what the one before has made.
 */
import assert from 'node:assert/strict';
import { attendSegment } from '../proto/attend-segment.js';
import type { Manifest } from '../proto/manifest.js';
import type {
  DeviceBuffer,
  LoadSegment,
  RemoteDevice,
  Segment,
  SegmentBinding,
  TensorHandle,
} from './device/device.js';
import { mergeGraphs } from './ort/merge-graphs.js';
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
  /** Bytes of a segment. */
  modelOf: (segment: string) => Uint8Array;
  /** Loads a graph that is no segment of the shards. */
  loadModel: LoadModel;
}

export type LoadModel = (model: Uint8Array, inputs: readonly string[], outputs: readonly string[]) => Segment;

/** Sequences whose attention is one run. */
const PIECES_TOGETHER = 8;

/** Graph inputs of a sequence that is alone, in the order of a binding. */
const WHOLE_INPUTS = ['query', 'key', 'value', 'past-key', 'past-value', 'last', 'total'];
const OUTPUTS = ['output', 'present-key', 'present-value'];
/** Those that all parts share; the rest is a part's own. */
const SHARED_INPUTS = ['query', 'key', 'value', 'attended'];
const OWN_INPUTS = ['past-key', 'past-value', 'last', 'total', 'index', 'place'];
const OWN_OUTPUTS = ['present-key', 'present-value'];
/** Where inputs begin. */
const Input = { PAST: 3, LAST: 5, TOTAL: 6 } as const;
/** The dimension that has another size in each part. */
const OWN_DIMENSION = 's';

interface Bound {
  segment: Segment;
  binding: SegmentBinding;
}

/** Layers with the same window. */
interface ByWindow {
  alone: Bound;
  /** The segment of one part among several. */
  part: string;
  /** By how many sequences, made when there are first so many. */
  together: Map<number, Bound>;
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
  readonly #byWindow = new Map<number | null, ByWindow>();
  readonly #places: Place[] = [];
  #queriesTogether = Number.POSITIVE_INFINITY;
  #pieces: Piece[] = [];
  /** Handles of this step: queries, keys, values, outputs; of several pieces a pair each, and the outputs as rows. */
  #tensors: TensorHandle[] = [];

  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(options: RemoteAttentionOptions) {
    this.#options = options;
    const { attend, program } = options.manifest;
    const nameOf = (queries: 'alone' | 'packed', window: number | null): string => {
      const name = attendSegment(attend, queries, window);
      assert(name !== undefined, `the shards have no attention for ${queries} with a window of ${window}`);
      return name;
    };
    const windows = new Set(program.flatMap((op) => (op.op === 'attend' ? [op.window] : [])));
    for (const window of windows) {
      const segment = options.loadSegment(nameOf('alone', window), WHOLE_INPUTS, OUTPUTS);
      const alone = { segment, binding: segment.newBinding() };
      const part = nameOf('packed', window);
      this.#byWindow.set(window, { alone, part, together: new Map() });
      // Loaded now, so that shards without it are told of.
      this.#together(window, 1);
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
    if (this.#pieces.length === 1) {
      this.#attendAlone(layer, window);
      return;
    }
    for (let first = 0; first < this.#pieces.length; ) {
      const count = this.#piecesTogether(first);
      this.#attendTogether(first, count, layer, window);
      first += count;
    }
  }

  /** From this one on: of one sequence there is one, since each reads what the one before wrote. */
  #piecesTogether(first: number): number {
    const slots = new Set<number>();
    const { length } = this.#pieces;
    for (let at = first; at < Math.min(length, first + PIECES_TOGETHER); at++) {
      const { slot } = this.#pieces[at]!;
      if (slots.has(slot)) break;
      slots.add(slot);
    }
    return slots.size;
  }

  #attendAlone(layer: number, window: number | null): void {
    const { binding, segment } = this.#ofWindow(window).alone;
    const tensors = this.#tensors;
    for (let input = 0; input < Input.PAST; input++) binding.setInput(input, tensors[input]!);
    binding.setOutput(0, tensors[Input.PAST]!);
    const { keys, values } = this.#options.kvCache.planes(this.#pieces[0]!.slot, layer);
    const { lastTensor, totalTensor } = this.#places[0]!;
    binding.setInput(Input.PAST, keys);
    binding.setInput(Input.PAST + 1, values);
    binding.setInput(Input.LAST, lastTensor);
    binding.setInput(Input.TOTAL, totalTensor);
    // Past and present are the same memory: only new rows are written.
    binding.setOutput(1, keys);
    binding.setOutput(2, values);
    segment.run(binding);
  }

  #attendTogether(first: number, count: number, layer: number, window: number | null): void {
    const { binding, segment } = this.#together(window, count);
    const tensors = this.#tensors;
    const packed = tensors.at(-1)!;
    for (let input = 0; input < Input.PAST; input++) binding.setInput(input, tensors[input]!);
    binding.setInput(Input.PAST, packed);
    binding.setOutput(0, packed);
    for (let part = 0; part < count; part++) {
      const { keys, values } = this.#options.kvCache.planes(this.#pieces[first + part]!.slot, layer);
      const { lastTensor, totalTensor } = this.#places[first + part]!;
      const [index, place] = [tensors[4 + 2 * (first + part)]!, tensors[5 + 2 * (first + part)]!];
      const inputs = SHARED_INPUTS.length + part * OWN_INPUTS.length;
      for (const [at, tensor] of [keys, values, lastTensor, totalTensor, index, place].entries()) {
        binding.setInput(inputs + at, tensor);
      }
      binding.setOutput(1 + part * OWN_OUTPUTS.length, keys);
      binding.setOutput(2 + part * OWN_OUTPUTS.length, values);
    }
    segment.run(binding);
  }

  #ofWindow(window: number | null): ByWindow {
    return this.#byWindow.get(window) ?? assert.fail(`a window of ${window}`);
  }

  /** The graph of so many parts: inputs SHARED_INPUTS, then each part's OWN_INPUTS; outputs the packed rows, then each part's OWN_OUTPUTS. */
  #together(window: number | null, count: number): Bound {
    const { part, together } = this.#ofWindow(window);
    const known = together.get(count);
    if (known) return known;
    const { loadModel, modelOf } = this.#options;
    const model = modelOf(part);
    const ownName = (name: string, at: number): string => `${name}-${at}`;
    const numbers = Array.from({ length: count }, (_, at) => at);
    const own = (names: readonly string[], at: number): Record<string, string> =>
      Object.fromEntries(names.map((name) => [name, ownName(name, at)]));
    const shared = Object.fromEntries(SHARED_INPUTS.map((name) => [name, name]));
    const parts = numbers.map((at) => ({
      model,
      inputs: { ...shared, ...own(OWN_INPUTS, at) },
      outputs: { output: 'attended', ...own(OWN_OUTPUTS, at) },
    }));
    const outputs = ['attended', ...numbers.flatMap((at) => OWN_OUTPUTS.map((name) => ownName(name, at)))];
    const merged = mergeGraphs(parts, new Set(outputs), [OWN_DIMENSION]);
    assert(merged, 'parts write where they read');
    const inputs = [
      ...SHARED_INPUTS,
      ...numbers.flatMap((at) => OWN_INPUTS.map((name) => ownName(name, at))),
    ];
    const graphNames = (names: Readonly<Record<string, string>>, buffers: readonly string[]): string[] => {
      const byBuffer = new Map(Object.entries(names).map(([name, buffer]) => [buffer, name]));
      return buffers.map((buffer) => byBuffer.get(buffer) ?? assert.fail(buffer));
    };
    const segment = loadModel(
      merged.model,
      graphNames(merged.inputs, inputs),
      graphNames(merged.outputs, outputs),
    );
    const bound = { segment, binding: segment.newBinding() };
    together.set(count, bound);
    return bound;
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
