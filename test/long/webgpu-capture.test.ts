/**
 * Captured runs against those that are not, in turn, on a GPU in software: nine families, the same bits. GOLDEN_REPORT=1 prints what the host's
 * thread spends in the runs of a decode step either way.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import type { Segment } from '../../shard-worker/device/device.js';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { goldenFolder, readGolden } from '../support/golden.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import { describeOnSoftwareVulkan } from '../support/on-software-vulkan.js';
import { useSoftwareVulkan } from '../support/software-vulkan.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-capture-'));
afterAll(() => rmSync(store, { recursive: true }));

const NEW_TOKENS = 8;
const ROUNDS = 3;
const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2', 'gptj', 'gpt-neox', 'phi3', 'mixtral'];
const CASES = FAMILIES.flatMap((name) => [
  { name, tp: 1, dtype: 'fp32' as const },
  { name, tp: 2, dtype: 'int4' as const },
]);

/** What this thread has had of a processor. */
const processorNs = (): number => Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]);

/** A device that counts what its host thread spends in runs. */
class TimedDevice extends WebgpuDevice {
  inRunsNs = 0;

  override loadSegment(...names: Parameters<WebgpuDevice['loadSegment']>): Segment {
    const segment = super.loadSegment(...names);
    const run = segment.run.bind(segment);
    segment.run = (binding) => {
      const before = processorNs();
      run(binding);
      this.inRunsNs += processorNs() - before;
    };
    return segment;
  }
}

let device: TimedDevice | null = null;
function open(): TimedDevice {
  useSoftwareVulkan();
  device ??= new TimedDevice({ logId: 'capture' });
  return device;
}

describeOnSoftwareVulkan('captured runs', () => {
  it.each(CASES)('of $name at tp $tp in $dtype have the bits of those that are not', async (one) => {
    const { dtype, name, tp } = one;
    const options = { folder: goldenFolder(name), outStore: store, tp, dtype, device: 'webgpu' } as const;
    const { shardFolder } = await partition(options);
    const [prompt] = readGolden(name).prompts;
    const groups = [];
    for (const capturesRuns of [false, true]) {
      const group = await createInProcessGroup(shardFolder, { slotTokens: 128, device: open, capturesRuns });
      groups.push({ group, run: greedyRuns(group), ns: 0, replays: 0 });
    }
    for (let round = 0; round < ROUNDS; round++) {
      const seen = [];
      for (const each of groups) {
        const { counters } = open();
        const [ns, replays] = [open().inRunsNs, counters.replays];
        const { ids } = await each.run(prompt!.ids, NEW_TOKENS);
        // The first has shaders to compile, and runs to capture.
        if (round > 0) each.ns += open().inRunsNs - ns;
        each.replays += counters.replays - replays;
        seen.push({ ids, logits: each.group.logits(0).slice() });
      }
      expect(seen[1]).toEqual(seen[0]);
      if (dtype === 'fp32') expect(seen[0]!.ids).toEqual(prompt!.greedyIds.slice(0, NEW_TOKENS));
    }
    const [plain, captured] = groups;
    expect(plain!.replays).toBe(0);
    expect(captured!.replays).toBeGreaterThan(tp * NEW_TOKENS * (ROUNDS - 1));
    if (process.env.GOLDEN_REPORT) {
      const [before, after] = groups.map(({ ns }) => ns / 1e3 / NEW_TOKENS / (ROUNDS - 1));
      const share = (after! / before!).toFixed(2);
      console.log(
        `${name} ${dtype} tp ${tp}: ${before!.toFixed(0)} µs a step, captured ${after!.toFixed(0)}: ${share}`,
      );
    }
  });
});
