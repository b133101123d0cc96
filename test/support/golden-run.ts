/**
 * One model folder against a golden, split over some ranks in this process.
 *
 * Out     the largest deviation of the kept logits, and whether every greedy token is the golden's
 */
import { partition } from '../../partitioner/partition.js';
import { type Golden, readGolden } from './golden.js';
import { relativeDeviation } from './golden-families.js';
import { greedyRuns } from './greedy-runs.js';
import { createInProcessGroup } from './in-process-group.js';

export interface GoldenRun {
  /** max |seen − golden| / max |golden|, over all positions that were compared. */
  deviation: number;
  tokensEqual: boolean;
}

export interface GoldenRunOptions {
  /** A folder of test/golden/. */
  name: string;
  modelFolder: string;
  store: string;
  tp: number;
}

/** The prompts in one piece and in three chunks, at their last position; in float32. */
export async function runGolden({ name, modelFolder, store, tp }: GoldenRunOptions): Promise<GoldenRun> {
  const golden: Golden = readGolden(name);
  const { shardFolder } = await partition({ folder: modelFolder, outStore: store, tp, dtype: 'fp32' });
  const run = greedyRuns(await createInProcessGroup(shardFolder));
  const seen: GoldenRun = { deviation: 0, tokensEqual: true };
  for (const prompt of golden.prompts) {
    const { length } = prompt.ids;
    const half = Math.floor(length / 2);
    for (const chunks of [[length], [1, half, length - half - 1]]) {
      const { ids, promptLogits } = await run(prompt.ids, prompt.greedyIds.length, chunks);
      const deviation = relativeDeviation(promptLogits, golden.logits(prompt, length - 1));
      // A deviation that is no number stays.
      seen.deviation = deviation <= seen.deviation ? seen.deviation : deviation;
      seen.tokensEqual &&= ids.join() === prompt.greedyIds.join();
    }
  }
  return seen;
}
