/**
 * Every byte that a decode step lets cross between host and device, exactly: partial sums, candidates, and the few numbers that say what to compute.
 * A host read that nobody has counted on is seen.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING, type Step } from '../../proto/control.js';
import { allReducesPerStep, type Manifest } from '../../proto/manifest.js';
import type { RemoteDevice, TransferCounters } from '../../shard-worker/device/device.js';
import { goldenFolder } from '../support/golden.js';
import { createInProcessGroup, type InProcessGroup } from '../support/in-process-group.js';

const SLOT_TOKENS = 64;
const MAX_SLOTS = 4;

export interface BytesCase {
  name: string;
  tp: number;
  dtype: 'fp32' | 'int4';
  /** How many a step has. */
  sequences: readonly number[];
}

/** What crosses where so many sequences decode, over all ranks. */
function bytesOfStep(manifest: Manifest, sequences: number): { sent: number; fetched: number } {
  const { numLayers, hiddenSize } = manifest.model;
  const sums = allReducesPerStep(manifest.program) * hiddenSize * 4;
  // Id, position, wanted row; the place of its last row for the device, and the rows that there are, once a layer, where the host reads them.
  const alone = 8 + 8 + 8 + 4 + 4 * numLayers;
  // Where its rows lie, if there are several, among the others'.
  const place = sequences > 1 ? 8 : 0;
  const each = { sent: alone + place + sums, fetched: manifest.perRank.vocab * 4 + sums };
  const times = manifest.worldSize * sequences;
  return { sent: times * each.sent, fetched: times * each.fetched };
}

export function deviceBytes(device: () => RemoteDevice, cases: readonly BytesCase[]): void {
  /** Called behind each run of a segment: of all groups, which have one device. */
  let planted: (() => void) | null = null;
  describe.each(cases)('bytes of a step, $name at tp $tp in $dtype', ({ dtype, name, sequences, tp }) => {
    const store = mkdtempSync(path.join(tmpdir(), 'device-bytes-'));
    afterAll(() => rmSync(store, { recursive: true }));
    let group: InProcessGroup;
    let manifest: Manifest;
    let step = 0;
    let sequence = 0;
    beforeAll(async () => {
      const options = { folder: goldenFolder(name), outStore: store, tp, dtype };
      const made = await partition({ ...options, device: device().deviceClass });
      manifest = made.manifest;
      const slots = { maxSlots: MAX_SLOTS, slotTokens: SLOT_TOKENS };
      group = await createInProcessGroup(made.shardFolder, {
        ...slots,
        device: () => withPlant(device(), () => planted?.()),
      });
    });

    const run = (plan: Partial<Step>) =>
      group.step({ closeSlots: [], opens: [], rows: [], ...plan, step: ++step });

    /** What crosses in a decode step of so many sequences, of a few such steps each. */
    async function crossing(
      count: number,
    ): Promise<Pick<TransferCounters, 'uploadedBytes' | 'downloadedBytes'>[]> {
      const slots = Array.from({ length: count }, (_, slot) => slot);
      const opens = slots.map((slot) => ({
        ...{ slot, sequence: ++sequence, promptIds: [3, 5 + slot, 7], maxNewTokens: 8, endIds: [] },
        sampling: GREEDY_SAMPLING,
      }));
      const rowsOf = (tokens: number) =>
        opens.map((open) => ({ slot: open.slot, sequence: open.sequence, tokens }));
      await run({ opens, rows: rowsOf(3) });
      const { counters } = device();
      const seen = [];
      for (let index = 0; index < 4; index++) {
        const { downloadedBytes, uploadedBytes } = counters;
        await run({ rows: rowsOf(1) });
        seen.push({
          uploadedBytes: counters.uploadedBytes - uploadedBytes,
          downloadedBytes: counters.downloadedBytes - downloadedBytes,
        });
      }
      await run({ closeSlots: slots });
      return seen;
    }

    const expected = (count: number) => {
      const { fetched, sent } = bytesOfStep(manifest, count);
      return Array.from({ length: 4 }, () => ({ uploadedBytes: sent, downloadedBytes: fetched }));
    };

    it.each(sequences)('are those that are counted on, of %i sequences', async (count) => {
      expect(await crossing(count)).toEqual(expected(count));
    });

    it('are seen to be more where the host reads four that it does not name', async () => {
      const [count = 1] = sequences;
      const scratch = device().allocate('float32', 4);
      const host = new Float32Array(new ArrayBuffer(128));
      planted = () => {
        planted = null;
        device().download(scratch, host, 1);
      };
      const [first, ...others] = await crossing(count);
      expect(first).toEqual(expected(count)[0]);
      expect(others).toEqual(expected(count).slice(1));
    });
  });
}

/** The device, with something behind each run of what is loaded from now on. */
function withPlant(device: RemoteDevice, after: () => void): RemoteDevice {
  return new Proxy(device, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (name !== 'loadSegment') return typeof value === 'function' ? value.bind(target) : value;
      return (...names: Parameters<RemoteDevice['loadSegment']>) => {
        const segment = target.loadSegment(...names);
        const run = segment.run.bind(segment);
        segment.run = (binding) => {
          run(binding);
          after();
        };
        return segment;
      };
    },
  });
}
