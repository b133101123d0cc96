/** shard-worker/attention.ts with sinks: which rows the segment sees, and that the cache is as it was afterwards. */
import { expect, it } from 'vitest';
import { Attention } from '../../../shard-worker/attention.js';
import type { HostDevice, HostMemory, Segment } from '../../../shard-worker/device/device.js';
import { KvCache, Plane } from '../../../shard-worker/kv-cache.js';
import type { Span } from '../../../shard-worker/span.js';

const HEAD_DIM = 3;
const SINK_COLUMN = 2;
const KV_HEADS = 2;
const COLUMNS = KV_HEADS * HEAD_DIM;
/** A single token's views reach to a multiple of so many rows, here the slot's end as well. */
const VIEW_ROWS = 16;
const WINDOW = 3;

/** A tensor is the floats it is a view of; a segment keeps what its inputs were when it ran. */
function createAttention(): { attention: Attention; cache: KvCache; seen: number[][][] } {
  const reserve = (bytes: number): HostMemory => {
    const buffer = new ArrayBuffer(bytes);
    return {
      bytes,
      float32: (byteOffset: number, length: number) => new Float32Array(buffer, byteOffset, length),
      bigInt64: (byteOffset: number, length: number) => new BigInt64Array(buffer, byteOffset, length),
      discard: () => {},
      free: () => {},
    };
  };
  const seen: number[][][] = [];
  const segment = (): Segment =>
    ({
      newBinding() {
        const inputs: Float32Array[] = [];
        return {
          inputs,
          setInput: (index: number, values: Float32Array) => {
            inputs[index] = values;
          },
          setOutput: () => {},
        };
      },
      run({ inputs }: { inputs: Float32Array[] }) {
        seen.push(inputs.map((values) => [...values].map(Number)));
      },
    }) as unknown as Segment;
  const device = {
    reserve,
    tensor: (memory: HostMemory, byteOffset: number, type: string, dims: number[]) => {
      const length = dims.reduce((product, size) => product * size, 1);
      return type === 'int64' ? memory.bigInt64(byteOffset, length) : memory.float32(byteOffset, length);
    },
    releaseTensor: () => {},
  } as unknown as HostDevice;
  const cache = new KvCache({
    device,
    numLayers: 1,
    numKvHeads: KV_HEADS,
    headDim: HEAD_DIM,
    maxSlots: 1,
    slotTokens: 32,
    leadingRows: 1,
  });
  cache.open(0);
  const activations = { memory: reserve(16 * COLUMNS * 4), columns: COLUMNS };
  const attention = new Attention({
    device,
    kvCache: cache,
    segments: { chunk: segment(), masked: segment(), token: segment() },
    query: activations,
    output: activations,
    maxStepTokens: 8,
    sinkColumn: SINK_COLUMN,
  });
  return { attention, cache, seen };
}

/** Keys of position p are p + 1, values −p − 1. */
const rowsOf = (from: number, count: number, sign: 1 | -1, columns = HEAD_DIM): number[] =>
  Array.from({ length: count * columns }, (_, index) => sign * (from + Math.floor(index / columns) + 1));
const SINK_KEY = [0, 0, 1];
const SINK_VALUE = [0, 0, 0];
/** What a single token's view shows behind the rows that there are. */
const behind = (rows: number): number[] => new Array<number>((VIEW_ROWS - rows) * HEAD_DIM).fill(0);

function step(attention: Attention, position: number, count: number, window: number | null): void {
  const span = { sequence: { slot: 0 }, offset: 0, position, count } as unknown as Span;
  const rows = (sign: 1 | -1): Float32Array => Float32Array.from(rowsOf(position, count, sign, COLUMNS));
  attention.attend(span, 0, { window, piece: null }, rows(1), rows(-1));
}

it('a row of sinks stands before the keys there are, and before those of a window', () => {
  const { attention, seen } = createAttention();
  step(attention, 0, 4, null);
  step(attention, 4, 1, null);
  step(attention, 5, 1, WINDOW);
  const [prompt, decode, windowed] = seen;
  const keys = [...SINK_KEY, ...rowsOf(0, 4, 1)];
  const values = [...SINK_VALUE, ...rowsOf(0, 4, -1)];
  // length, query, then each head's keys and values
  expect(prompt?.[0]).toEqual([5]);
  expect(prompt?.slice(2)).toEqual([keys, values, keys, values]);
  // length, then each head's query, keys and values
  expect(decode?.[0]).toEqual([6]);
  for (const input of [2, 5]) {
    expect(decode?.[input]).toEqual([...SINK_KEY, ...rowsOf(0, 5, 1), ...behind(6)]);
    expect(windowed?.[input]).toEqual([...SINK_KEY, ...rowsOf(3, 3, 1), ...behind(4)]);
    expect(windowed?.[input + 1]).toEqual([...SINK_VALUE, ...rowsOf(3, 3, -1), ...behind(4)]);
  }
  expect(windowed?.[0]).toEqual([4]);
});

it('the mask of a windowed chunk lets every query see the sinks', () => {
  const { attention, seen } = createAttention();
  step(attention, 0, 4, WINDOW);
  step(attention, 4, 3, WINDOW);
  const [keys, , , , mask = []] = seen[1]?.slice(2) ?? [];
  expect(keys).toEqual([...SINK_KEY, ...rowsOf(2, 5, 1)]);
  expect(mask.map((value) => (value === 0 ? 1 : 0))).toEqual([
    ...[1, 1, 1, 1, 0, 0],
    ...[1, 0, 1, 1, 1, 0],
    ...[1, 0, 0, 1, 1, 1],
  ]);
});

it('the token that stood there is put back', () => {
  const { attention, cache } = createAttention();
  step(attention, 0, 6, null);
  step(attention, 6, 1, WINDOW);
  expect([...cache.row(0, 0, Plane.KEY, 1, 3)]).toEqual(rowsOf(3, 1, 1));
  expect([...cache.row(0, 0, Plane.VALUE, 1, 3)]).toEqual(rowsOf(3, 1, -1));
});
