/** shard-worker/device/nccl.ts: what NCCL is called with, and what it says (integration/collective/nccl.test: the library's own calls). */
import { describe, expect, it } from 'vitest';
import type { DeviceLinks } from '../../../shard-worker/device/device.js';
import { type NcclFunctions, openNccl } from '../../../shard-worker/device/nccl.js';
import { RemoteBuffer } from '../../../shard-worker/device/remote-ort-device.js';

const COMM = 4242n;

function open(fields: Partial<NcclFunctions> = {}, isDone = () => true) {
  const calls: unknown[][] = [];
  const functions: NcclFunctions = {
    ncclGetVersion: (out) => {
      out[0] = 23203;
      return 0;
    },
    ncclGetUniqueId: (out) => {
      out.fill(7);
      return 0;
    },
    ncclCommInitRank: () => 0,
    ncclAllReduce: (...args) => {
      calls.push(['all-reduce', ...args]);
      return 0;
    },
    ncclCommGetAsyncError: (_, out) => {
      out[0] = 0;
      return 0;
    },
    ncclCommAbort: (comm) => {
      calls.push(['abort', comm]);
      return 0;
    },
    ncclGetErrorString: (code) => `words of ${code}`,
    ncclGetLastError: (comm) => (comm === COMM ? 'the last that was said\n' : null),
    ...fields,
  };
  const links = openNccl({
    ...{ folder: '/nonexistent', cudart: '/nonexistent/libcudart.so.13', gpu: 3 },
    runtime: { stream: 77n, isDone },
    load: () => functions,
    join: async (task, timeoutMs) => {
      calls.push(['join', task.gpu, task.rank, task.worldSize, [...task.id].length, timeoutMs]);
      return COMM;
    },
  }) as DeviceLinks;
  const join = () => links.join({ rank: 1, worldSize: 2, id: links.newId(), timeoutMs: 500 });
  return { calls, links, join };
}

const buffer = (address: number): RemoteBuffer => new RemoteBuffer('float32', 100, address, () => {});

describe('NCCL', () => {
  it('is named with its version, joins on its GPU, adds floats in the stream, and is aborted once', async () => {
    const { calls, join, links } = open();
    expect(links.name).toBe('NCCL 2.32.3');
    const link = await join();
    link.sum(buffer(4096), buffer(8192), 50);
    expect(link.isDone()).toBe(true);
    link.abort();
    link.abort();
    // Floats are type 7, a sum operation 0.
    expect(calls).toEqual([
      ['join', 3, 1, 2, 128, 500],
      ['all-reduce', 4096, 8192, 50, 7, 0, COMM, 77n],
      ['abort', COMM],
    ]);
  });

  it('says what it says of a sum, at once and later, and that its stream is not done', async () => {
    const refused = await open({ ncclAllReduce: () => 5 }).join();
    expect(() => refused.sum(buffer(1), buffer(2), 3)).toThrow(
      'NCCL ncclAllReduce: words of 5 (5): the last that was said',
    );
    const states = [7, 6];
    const later = await open(
      {
        ncclCommGetAsyncError: (_, out) => {
          out[0] = states.shift()!;
          return 0;
        },
      },
      () => false,
    ).join();
    expect(later.isDone()).toBe(false);
    expect(() => later.isDone()).toThrow('NCCL ncclAllReduce: words of 6 (6): the last that was said');
  });

  it('says why it is not there', () => {
    const load = () => {
      throw new Error('libnccl.so.2: cannot open shared object file');
    };
    const options = {
      folder: '/nonexistent',
      cudart: '',
      gpu: 0,
      runtime: { stream: 0n, isDone: () => true },
    };
    expect(openNccl({ ...options, load })).toBe(
      'NCCL does not load, which npx shardserve gpu install fetches (libnccl.so.2: cannot open shared object file)',
    );
    expect(() => open({ ncclGetUniqueId: () => 2 }).links.newId()).toThrow(
      'NCCL ncclGetUniqueId: words of 2 (2)',
    );
  });
});
