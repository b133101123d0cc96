/** shard-worker/remote-step-buffers.ts: which bytes of a step cross between host and device. */
import { describe, expect, it } from 'vitest';
import type { ManifestBuffer, ProgramOp } from '../../../proto/manifest.js';
import type { CollectiveTag, DeviceSums } from '../../../shard-worker/collective/collective.js';
import type {
  DeviceBuffer,
  HostArray,
  RemoteDevice,
  TensorType,
} from '../../../shard-worker/device/device.js';
import { RemoteStepBuffers } from '../../../shard-worker/remote-step-buffers.js';

const buffer = (
  name: string,
  first: ManifestBuffer['first'],
  columns: number,
  more: Partial<ManifestBuffer> = {},
): ManifestBuffer => ({ name, first, columns, type: 'float32', shape: 'rank2', place: 'worker', ...more });

const io = { ids: 'ids', positions: 'positions', rows: 'rows', output: 'logits' };
const BUFFERS = [
  buffer('ids', 'tokens', 1, { type: 'int64', shape: 'rank1' }),
  buffer('positions', 'tokens', 1, { type: 'int64', shape: 'row' }),
  buffer('rows', 'rows', 1, { type: 'int64', shape: 'rank1' }),
  buffer('query', 'tokens', 8, { shape: 'rank3' }),
  buffer('partial0', 'tokens', 4, { place: 'partial' }),
  buffer('sum0', 'tokens', 4, { place: 'sum' }),
  buffer('logits', 'rows', 16),
];

interface FakeBuffer extends DeviceBuffer {
  crossed: number;
}

function createBuffers(program: ProgramOp[] = [], onDevice?: DeviceSums) {
  const shapes: number[][] = [];
  const device = {
    isRemote: true,
    allocate: (type: TensorType, elements: number): FakeBuffer => ({
      ...{ type, elements, crossed: 0 },
      free: () => {},
    }),
    tensor: (_: DeviceBuffer, shape: number[]) => shapes.push([...shape]),
    upload: (to: FakeBuffer, data: HostArray, length: number) => {
      to.crossed += length * data.BYTES_PER_ELEMENT;
    },
    download: (from: FakeBuffer, data: HostArray, length: number) => {
      from.crossed += length * data.BYTES_PER_ELEMENT;
      if (data instanceof Float32Array) data.fill(7, 0, length);
    },
  } as unknown as RemoteDevice;
  const collective = {
    allocate: (_: string, __: string, floats: number) => new Float32Array(floats),
    allReduce: (_: CollectiveTag, partial: Float32Array, sum: Float32Array, floats: number) => {
      sum.set(partial.subarray(0, floats).map((value) => 2 * value));
    },
    ...(onDevice && { onDevice }),
  };
  const manifest = { buffers: BUFFERS, io, program };
  const buffers = new RemoteStepBuffers({ device, manifest, collective, maxStepTokens: 10, maxRows: 3 });
  return { buffers, shapes };
}

describe('RemoteStepBuffers', () => {
  it('sends and fetches the rows that a step has, whole elements of their type', () => {
    const { buffers } = createBuffers();
    buffers.send('ids', 5);
    expect(buffers.memory('ids').memory).toMatchObject({ type: 'int64', elements: 10, crossed: 5 * 8 });
    buffers.fetch('logits', 2);
    expect(buffers.memory('logits').memory).toMatchObject({ elements: 48, crossed: 2 * 16 * 4 });
    expect([...buffers.float32('logits').subarray(30, 34)]).toEqual([7, 7, 0, 0]);
  });

  it('keeps no host array of what stays on the device', () => {
    const { buffers } = createBuffers();
    expect(() => buffers.float32('query')).toThrow('buffer query stays on the device');
    expect(() => buffers.fetch('query', 1)).toThrow('buffer query stays on the device');
  });

  it('makes handles in the shapes that graphs see, none of rows that nobody wants', () => {
    const { buffers, shapes } = createBuffers();
    expect([...buffers.tensors(5, 0).keys()]).toEqual(['ids', 'positions', 'query', 'partial0', 'sum0']);
    expect(shapes).toEqual([[5], [1, 5], [1, 5, 8], [5, 4], [5, 4]]);
  });

  it('gives the pages of partial sums alone to be discarded', () => {
    const { buffers } = createBuffers();
    expect(buffers.tokenBuffers().map(({ rowBytes }) => rowBytes)).toEqual([16, 16]);
  });

  it('adds by way of the host, where partial sums cross', async () => {
    const { buffers } = createBuffers();
    await buffers.addRanks({ step: 1, op: 2 }, 'partial0', 'sum0', 3);
    expect([...buffers.float32('sum0').subarray(10, 14)]).toEqual([14, 14, 0, 0]);
    for (const name of ['partial0', 'sum0'])
      expect(buffers.memory(name).memory).toMatchObject({ crossed: 48 });
    expect(buffers.settle()).toBeUndefined();
  });

  it('adds on the device where devices can, and lets no partial sum cross', async () => {
    const asked: unknown[][] = [];
    const { buffers } = createBuffers([], {
      sumOnDevice: (...args) => {
        asked.push(args);
      },
      settle: async () => {
        asked.push(['settle']);
      },
    });
    const tag = { step: 1, op: 2 };
    await buffers.addRanks(tag, 'partial0', 'sum0', 3);
    await buffers.settle();
    const [partial, sum] = ['partial0', 'sum0'].map((name) => buffers.memory(name).memory);
    expect(asked).toEqual([[tag, partial, sum, 12], ['settle']]);
    expect([partial, sum]).toMatchObject([{ crossed: 0 }, { crossed: 0 }]);
    expect(() => buffers.float32('partial0')).toThrow('stays on the device');
    expect(buffers.tokenBuffers()).toEqual([]);
  });

  it('lets hidden states cross where the host pools them', () => {
    const pool: ProgramOp = { op: 'pool', hidden: 'query', pooled: 'logits', poolings: ['mean'] };
    const { buffers } = createBuffers([pool]);
    buffers.fetch('query', 2);
    expect(buffers.memory('query').memory).toMatchObject({ crossed: 2 * 8 * 4 });
  });
});
