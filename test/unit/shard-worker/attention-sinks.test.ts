/** shard-worker/attention.ts with sinks: which rows the segment sees, and that the cache is as it was afterwards. */
import { expect, it } from 'vitest';
import { Attention } from '../../../shard-worker/attention.js';
import type { Device, DeviceMemory, Segment } from '../../../shard-worker/device/device.js';
import { KvCache, Plane } from '../../../shard-worker/kv-cache.js';
import type { Span } from '../../../shard-worker/span.js';

const HEAD_DIM = 3;
const SINK_COLUMN = 2;
const COLUMNS = 2 * HEAD_DIM;
const WINDOW = 3;

/** A tensor is the floats it is a view of; a segment keeps what its inputs were when it ran. */
function createAttention(): { attention: Attention; cache: KvCache; seen: number[][][] } {
  const reserve = (bytes: number): DeviceMemory => {
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
    tensor: (memory: DeviceMemory, byteOffset: number, type: string, dims: number[]) => {
      const length = dims.reduce((product, size) => product * size, 1);
      return type === 'int64' ? memory.bigInt64(byteOffset, length) : memory.float32(byteOffset, length);
    },
    releaseTensor: () => {},
  } as unknown as Device;
  const cache = new KvCache({
    device,
    numLayers: 1,
    columns: COLUMNS,
    maxSlots: 1,
    slotTokens: 16,
    leadingRows: 1,
  });
  cache.open(0);
  const activations = { memory: reserve(16 * COLUMNS * 4), columns: COLUMNS };
  const attention = new Attention({
    device,
    kvCache: cache,
    attend: segment(),
    masked: segment(),
    query: activations,
    output: activations,
    maxStepTokens: 8,
    headDim: HEAD_DIM,
    sinkColumn: SINK_COLUMN,
  });
  return { attention, cache, seen };
}

/** Keys of position p are p + 1, values −p − 1. */
const rowsOf = (from: number, count: number, sign: 1 | -1): number[] =>
  Array.from({ length: count * COLUMNS }, (_, index) => sign * (from + Math.floor(index / COLUMNS) + 1));
const SINK_KEY = [0, 0, 1, 0, 0, 1];
const SINK_VALUE = new Array<number>(COLUMNS).fill(0);

function step(attention: Attention, position: number, count: number, window: number | null): void {
  const span = { sequence: { slot: 0 }, offset: 0, position, count } as unknown as Span;
  const rows = (sign: 1 | -1): Float32Array => Float32Array.from(rowsOf(position, count, sign));
  attention.attend(span, 0, window, rows(1), rows(-1));
}

it('a row of sinks stands before the keys there are, and before those of a window', () => {
  const { attention, seen } = createAttention();
  step(attention, 0, 4, null);
  step(attention, 4, 1, null);
  step(attention, 5, 1, WINDOW);
  const [prompt, decode, windowed] = seen;
  expect(prompt?.slice(1, 4)).toEqual([
    [...SINK_KEY, ...rowsOf(0, 4, 1)],
    [...SINK_VALUE, ...rowsOf(0, 4, -1)],
    [5],
  ]);
  expect(decode?.[1]).toEqual([...SINK_KEY, ...rowsOf(0, 5, 1)]);
  expect(windowed?.slice(1, 4)).toEqual([
    [...SINK_KEY, ...rowsOf(3, 3, 1)],
    [...SINK_VALUE, ...rowsOf(3, 3, -1)],
    [4],
  ]);
});

it('the mask of a windowed chunk lets every query see the sinks', () => {
  const { attention, seen } = createAttention();
  step(attention, 0, 4, WINDOW);
  step(attention, 4, 3, WINDOW);
  const [keys, , , mask = []] = seen[1]?.slice(1) ?? [];
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
  expect([...cache.row(0, 0, Plane.KEY, 3)]).toEqual(rowsOf(3, 1, 1));
  expect([...cache.row(0, 0, Plane.VALUE, 3)]).toEqual(rowsOf(3, 1, -1));
});
