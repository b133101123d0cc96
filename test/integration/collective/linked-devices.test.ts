/** Sums between devices: the suite of all collectives over devices that are memory of this process; what fails while a device computes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { Collective, CollectiveTag } from '../../../shard-worker/collective/collective.js';
import { linkDevices } from '../../../shard-worker/collective/link-devices.js';
import { LinkedCollective } from '../../../shard-worker/collective/linked-devices.js';
import { connectZeromqCollective } from '../../../shard-worker/collective/zeromq.js';
import type { DeviceLinks } from '../../../shard-worker/device/device.js';
import { type FakeBuffer, type FakeLink, fakeBuffer, fakeLinks } from '../../fixtures/fake-links.js';
import { describeCollective } from '../../suites/collective.suite.js';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function connectHosts(worldSize: number, timeoutMs: number): Promise<Collective[]> {
  const socketFolder = mkdtempSync(path.join(tmpdir(), 'shardserve-linked-'));
  folders.push(socketFolder);
  return Promise.all(
    Array.from({ length: worldSize }, (_, rank) =>
      connectZeromqCollective({ rank, worldSize, socketFolder, timeoutMs, connectTimeoutMs: 30_000 }),
    ),
  );
}

/** What a rank does around it: partials are made on the device, sums are read there. */
class OnDevice implements Collective {
  readonly #inner: LinkedCollective;
  readonly #buffers = new Map<Float32Array, FakeBuffer>();

  constructor(inner: LinkedCollective) {
    this.#inner = inner;
  }

  get rank(): number {
    return this.#inner.rank;
  }

  get worldSize(): number {
    return this.#inner.worldSize;
  }

  get counters(): Collective['counters'] {
    return this.#inner.counters;
  }

  allocate(buffer: string, place: 'partial' | 'sum', floats: number): Float32Array {
    const memory = this.#inner.allocate(buffer, place, floats);
    this.#buffers.set(memory, fakeBuffer(floats));
    return memory;
  }

  async allReduce(
    tag: CollectiveTag,
    partial: Float32Array,
    sum: Float32Array,
    floats: number,
  ): Promise<void> {
    const [from, to] = [this.#buffers.get(partial)!, this.#buffers.get(sum)!];
    from.memory.set(partial);
    await this.#inner.onDevice.sumOnDevice(tag, from, to, floats);
    await this.#inner.onDevice.settle();
    sum.set(to.memory.subarray(0, floats));
  }

  gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    return this.#inner.gather(tag, piece);
  }

  broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    return this.#inner.broadcast(tag, bytes);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

async function connectLinked(
  worldSize: number,
  timeoutMs: number,
): Promise<{ ranks: LinkedCollective[]; links: FakeLink[] }> {
  const hosts = await connectHosts(worldSize, timeoutMs);
  const { all } = fakeLinks(worldSize);
  const ranks = hosts.map((host, rank) => new LinkedCollective({ host, link: all[rank]!, timeoutMs }));
  return { ranks, links: all };
}

describeCollective('linked devices', {
  connect: async (worldSize, timeoutMs) =>
    (await connectLinked(worldSize, timeoutMs)).ranks.map((one) => new OnDevice(one)),
  worldSizes: [1, 2, 3, 4],
  inAnyOrder: true,
});

const opened: Collective[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
});

describe('while a device adds', () => {
  const [partial, sum] = [fakeBuffer(8), fakeBuffer(8)];
  const start = async (timeoutMs: number) => {
    const { links, ranks } = await connectLinked(2, timeoutMs);
    opened.push(...ranks);
    const ask = () =>
      Promise.all(ranks.map((one) => one.onDevice.sumOnDevice({ step: 1, op: 0 }, partial, sum, 8)));
    return { links, ranks, ask };
  };

  it('does not wait for it before the host reads', async () => {
    const { ask, links, ranks } = await start(30_000);
    for (const link of links) link.hangs = true;
    await ask();
    await ask();
    let settled = false;
    const settling = ranks[0]!.onDevice.settle().then(() => {
      settled = true;
    });
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toBe(false);
    for (const link of links) link.done = link.asked.length;
    await settling;
    expect(links.map(({ asked }) => asked.length)).toEqual([2, 2]);
    // Nothing runs any more: nobody looks.
    links[0]!.failure = new Error('looked');
    await ranks[0]!.onDevice.settle();
  });

  it('ends the sum of a peer that is gone, and says who', async () => {
    const { ask, links, ranks } = await start(30_000);
    for (const link of links) link.hangs = true;
    await ask();
    const settling = ranks[0]!.onDevice.settle();
    await ranks[1]!.close();
    await expect(settling).rejects.toMatchObject({ kind: 'PEER_LOST', peer: 1 });
    expect(links.map(({ aborted }) => aborted)).toEqual([true, true]);
    await expect(ask()).rejects.toMatchObject({ kind: 'PEER_LOST' });
  });

  it('ends a sum that hangs by the deadline', async () => {
    const { ask, links, ranks } = await start(200);
    for (const link of links) link.hangs = true;
    await ask();
    const settling = ranks[0]!.onDevice.settle();
    await expect(settling).rejects.toMatchObject({ kind: 'TIMEOUT' });
    await expect(settling).rejects.toThrow('rank 0: the GPU was not done within 200 ms');
    expect(links[0]!.aborted).toBe(true);
  });

  it('fails with what the library says, and with it from then on', async () => {
    const { ask, links, ranks } = await start(30_000);
    await ask();
    const failure = new Error('NCCL ncclAllReduce: remote process exited (6)');
    links[1]!.failure = failure;
    await expect(ranks[1]!.onDevice.settle()).rejects.toBe(failure);
    expect(links[1]!.aborted).toBe(true);
    await expect(ranks[1]!.gather({ step: 2, op: 0 }, new Uint8Array(1))).rejects.toBe(failure);
    await expect(ranks[1]!.onDevice.settle()).rejects.toBe(failure);
  });

  it('ends with CLOSED', async () => {
    const { ask, links, ranks } = await start(30_000);
    for (const link of links) link.hangs = true;
    await ask();
    const settling = ranks[0]!.onDevice.settle();
    await ranks[0]!.close();
    await expect(settling).rejects.toMatchObject({ kind: 'CLOSED' });
    expect(links[0]!.aborted).toBe(true);
  });
});

describe('linkDevices', () => {
  const link = async (
    linksOf: (rank: number) => DeviceLinks | string | null,
    wanted: 'auto' | 'shm' | 'nccl' = 'auto',
    worldSize = 2,
  ) => {
    const hosts = await connectHosts(worldSize, 30_000);
    opened.push(...hosts);
    const lines: string[] = [];
    const say = (line: string) => lines.push(line);
    const results = await Promise.allSettled(
      hosts.map((host, rank) => {
        const device = { deviceClass: 'cuda' as const, links: linksOf(rank) };
        return linkDevices(host, { device, wanted, timeoutMs: 30_000, say });
      }),
    );
    const collectives = results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const reasons = results.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
    return {
      hosts,
      lines,
      collectives,
      reasons,
      isLinked: collectives.map((one) => one.onDevice !== undefined),
    };
  };

  it('joins all ranks by the id that rank 0 was given, and says so once', async () => {
    const { links } = fakeLinks(3);
    const { collectives, isLinked, lines } = await link(() => links, 'auto', 3);
    expect(isLinked).toEqual([true, true, true]);
    expect(lines).toEqual(['partial sums of 3 ranks are added between their GPUs by a fake']);
    for (const { counters } of collectives) {
      expect(counters).toEqual({ allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 });
    }
  });

  it('goes by way of the host on all ranks where one has no library, and says which', async () => {
    const { links } = fakeLinks(2);
    const { collectives, hosts, lines } = await link((rank) => (rank === 1 ? 'no libnccl.so.2' : links));
    for (const [rank, one] of collectives.entries()) expect(one).toBe(hosts[rank]);
    expect(lines).toEqual(['partial sums are added by way of the host: rank 1: no libnccl.so.2']);
  });

  it('goes by way of the host where one does not join, and leaves no rank in the group', async () => {
    const { all } = fakeLinks(2);
    const { links } = fakeLinks(2, {
      join: async ({ rank }) => {
        if (rank === 0) throw new Error('Duplicate GPU detected');
        return all[rank]!;
      },
    });
    const { isLinked, lines } = await link(() => links);
    expect(isLinked).toEqual([false, false]);
    expect(lines).toEqual(['partial sums are added by way of the host: rank 0: Duplicate GPU detected']);
    expect(all.map(({ aborted }) => aborted)).toEqual([false, true]);
  });

  it('goes by way of the host where there is no id', async () => {
    const newId = () => {
      throw new Error('NCCL ncclGetUniqueId: no');
    };
    const { lines } = await link(() => fakeLinks(2, { newId }).links);
    expect(lines).toEqual(['partial sums are added by way of the host: rank 0: NCCL ncclGetUniqueId: no']);
  });

  it('refuses what option.collective=nccl asks for, and asks nobody where it says shm', async () => {
    const missing = await link(() => 'no libnccl.so.2', 'nccl');
    for (const reason of missing.reasons) {
      expect(reason).toContain('option.collective=nccl cannot be had: rank 0: no libnccl.so.2');
    }
    expect(missing.reasons).toHaveLength(2);
    const another = await link(() => null, 'nccl');
    expect(another.reasons[0]).toContain("the device is cuda, and NCCL is cuda's");
    const { links } = fakeLinks(2);
    const forbidden = await link(() => links, 'shm');
    expect(forbidden.isLinked).toEqual([false, false]);
    expect(forbidden.lines).toEqual([]);
  });
});
