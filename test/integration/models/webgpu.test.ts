/**
 * The WebGPU device on a GPU in software (test/support/software-vulkan.ts): the tiny Llama's golden tokens and logits by transformers, over
 * one rank and two; sequences together, prompts in chunks, rows that are copied; every byte that crosses between host and device; and streams
 * by the batch loop (test/long has other formats, and too little memory).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING, type Step, type StepResult } from '../../../proto/control.js';
import { allReducesPerStep, type Manifest } from '../../../proto/manifest.js';
import { WebgpuDevice } from '../../../shard-worker/device/webgpu-device.js';
import { deviceSteps } from '../../device/device-steps.js';
import { deviceStreamsSuite } from '../../suites/device-streams.suite.js';
import { type GoldenPrompt, goldenFolder, readGolden } from '../../support/golden.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../../support/golden-families.js';
import { createInProcessGroup, type InProcessGroup } from '../../support/in-process-group.js';
import { describeOnSoftwareVulkan } from '../../support/on-software-vulkan.js';
import { useSoftwareVulkan } from '../../support/software-vulkan.js';

const SLOT_TOKENS = 128;
const NEW_TOKENS = 5;

describeOnSoftwareVulkan('webgpu', () => {
  const golden = readGolden('llama');
  let store: string;
  let device: WebgpuDevice;
  beforeAll(() => {
    useSoftwareVulkan();
    store = mkdtempSync(path.join(tmpdir(), 'webgpu-'));
    device = new WebgpuDevice({ logId: 'test' });
  });
  afterAll(() => rmSync(store, { recursive: true }));

  const promptOf = (name: string): GoldenPrompt => golden.prompts.find((one) => one.name === name)!;

  describe.each([1, 2])('tp %i', (tp) => {
    let group: InProcessGroup;
    let manifest: Manifest;
    let step = 0;
    let sequence = 0;
    beforeAll(async () => {
      const options = { folder: goldenFolder('llama'), outStore: store, tp, dtype: 'fp32' } as const;
      const made = await partition({ ...options, device: 'webgpu' });
      manifest = made.manifest;
      const slots = { maxSlots: 4, slotTokens: SLOT_TOKENS };
      group = await createInProcessGroup(made.shardFolder, { ...slots, device: () => device });
    });

    const run = async (plan: Partial<Step>): Promise<StepResult> => {
      const whole = { closeSlots: [], opens: [], rows: [], ...plan, step: ++step };
      const results = await group.step(whole);
      for (const result of results) expect(result.rows).toEqual(results[0]?.rows);
      return results[0]!;
    };

    const openOf = (slot: number, { ids }: GoldenPrompt) => ({
      ...{ slot, sequence: ++sequence, promptIds: ids, maxNewTokens: NEW_TOKENS, endIds: [] },
      sampling: GREEDY_SAMPLING,
    });

    /** A layer is its attention and what is between two; where ranks add, what is between is three. */
    const runsOfStep = (): number => {
      const { numLayers } = manifest.model;
      return tp === 1 ? 2 * numLayers + 2 : 4 * numLayers + 1;
    };

    it('gives the golden logits and tokens, and lets cross partial sums and candidates alone', async () => {
      const prompt = promptOf('medium');
      const { length } = prompt.ids;
      const open = openOf(0, prompt);
      const made: number[] = [];
      for (let index = 0; made.length < NEW_TOKENS; index++) {
        const tokens = index === 0 ? length : 1;
        const before = { ...device.counters };
        const rows = [{ slot: 0, sequence: open.sequence, tokens }];
        const result = await run({ opens: index === 0 ? [open] : [], rows });
        if (index === 0) {
          const deviation = relativeDeviation(group.logits(0), golden.logits(prompt, length - 1));
          expect(deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
        } else {
          const { numLayers, hiddenSize } = manifest.model;
          const sums = allReducesPerStep(manifest.program) * tokens * hiddenSize * 4;
          // Id, position, wanted row; the rows that there are, once for the device and once a layer where the host reads them.
          const sent = 8 + 8 + 8 + 4 + 4 * numLayers + sums;
          expect(device.counters.uploadedBytes - before.uploadedBytes).toBe(tp * sent);
          const fetched = manifest.perRank.vocab * 4 + sums;
          expect(device.counters.downloadedBytes - before.downloadedBytes).toBe(tp * fetched);
          expect(device.counters.runs - before.runs).toBe(tp * runsOfStep());
          // All but attention, from the second step of one token on.
          const replays = index < 2 ? 0 : runsOfStep() - numLayers;
          expect(device.counters.replays - before.replays).toBe(tp * replays);
        }
        made.push(result.rows[0]!.tokens[0]!.tokenId);
      }
      expect(made).toEqual(prompt.greedyIds.slice(0, NEW_TOKENS));
      await run({ closeSlots: [0] });
    });

    it('gives them together with others, in chunks, and behind rows that were copied', async () => {
      const names = ['short', 'medium', 'long'];
      const prompts = names.map(promptOf);
      const opens = prompts.map((prompt, slot) => openOf(slot, prompt));
      const made = prompts.map((): number[] => []);
      const left = prompts.map(({ ids }) => ids.length);
      let decodesTogether = 0;
      for (let index = 0; made.some((ids) => ids.length < NEW_TOKENS); index++) {
        const running = opens.filter(({ slot }) => made[slot]!.length < NEW_TOKENS);
        const rows = running.map(({ slot, sequence: id }) => ({
          ...{ slot, sequence: id },
          tokens: left[slot]! > 0 ? Math.min(left[slot]!, 48) : 1,
        }));
        const before = device.counters.runs;
        const result = await run({ opens: index === 0 ? opens : [], rows });
        // Three sequences that decode are as many submissions as one.
        if (rows.length === 3 && rows.every(({ tokens }) => tokens === 1)) {
          expect(device.counters.runs - before).toBe(tp * runsOfStep());
          decodesTogether++;
        }
        result.rows.forEach((row, at) => {
          left[row.slot] = left[row.slot]! - rows[at]!.tokens;
          made[row.slot]!.push(...row.tokens.map(({ tokenId }) => tokenId));
        });
      }
      expect(made).toEqual(prompts.map(({ greedyIds }) => greedyIds.slice(0, NEW_TOKENS)));
      expect(decodesTogether).toBeGreaterThan(0);

      // The medium prompt again, behind all but its last two rows of the one before.
      const [, medium] = opens;
      const again = openOf(3, promptOf('medium'));
      const kept = again.promptIds.length - 2;
      const copy = { fromSlot: 1, fromSequence: medium!.sequence, toSlot: 3, toSequence: again.sequence };
      const rows = [{ slot: 3, sequence: again.sequence, tokens: 2 }];
      const result = await run({ opens: [again], copies: [{ ...copy, rows: kept }], rows });
      expect(result.rows[0]!.tokens[0]!.tokenId).toBe(promptOf('medium').greedyIds[0]);
      await run({ closeSlots: [0, 1, 2, 3] });
    });
  });

  it('goes through the step of check:device that tells its speed', async () => {
    const step = deviceSteps('software').find(({ name }) => name === 'speed')!;
    const context = { kind: 'software', freeBytes: () => null, gpus: 0, cudaFolder: '' } as const;
    const row = await step.run({ ...context, device, store });
    expect(row).toMatchObject({
      name: 'speed of llama',
      dtype: 'int4',
      tp: 1,
      verdict: 'right',
      memoryBytes: null,
    });
    expect(row.stepMs).toBeGreaterThan(0);
    expect(row.note).toMatch(/^[\d.e-]+ GB\/s of weights, [\d.e-]+ % of the [\d.]+ GB\/s of a copy$/);
  });

  deviceStreamsSuite({
    device: () => device,
    cases: [1, 2].map((tp) => ({ tp, dtype: 'fp32' as const })),
  });
});
