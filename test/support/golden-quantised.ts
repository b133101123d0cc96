/**
 * What int8 and int4 do to a golden: how often the best token is still the golden's, and how far logits move.
 *
 * Out     over the first, middle and last position of each prompt (those whose logits are kept)
 */
import { partition } from '../../partitioner/partition.js';
import { goldenFolder, readGolden } from './golden.js';
import { relativeDeviation } from './golden-families.js';
import { greedyRuns } from './greedy-runs.js';
import { createInProcessGroup } from './in-process-group.js';

export interface QuantisedGolden {
  positions: number;
  /** Positions with the same best token. */
  agreed: number;
  /** max |seen − golden| / max |golden| */
  deviation: number;
}

const BLOCK_SIZE = 32;
const MAX_POSITIONS = 3;

export async function quantisedGolden(
  name: string,
  dtype: 'int8' | 'int4',
  store: string,
): Promise<QuantisedGolden> {
  const golden = readGolden(name);
  const folder = goldenFolder(name);
  const { shardFolder } = await partition({ folder, outStore: store, tp: 1, dtype, blockSize: BLOCK_SIZE });
  const run = greedyRuns(await createInProcessGroup(shardFolder));
  const seen: QuantisedGolden = { positions: 0, agreed: 0, deviation: 0 };
  for (const prompt of golden.prompts) {
    const { logitPositions } = prompt;
    const middle = logitPositions[logitPositions.length >> 1];
    const wanted = [...new Set([logitPositions[0], middle, logitPositions.at(-1)])].slice(0, MAX_POSITIONS);
    for (const position of wanted) {
      if (position === undefined) continue;
      const { promptLogits } = await run(prompt.ids.slice(0, position + 1), 1);
      const expected = golden.logits(prompt, position);
      seen.positions++;
      if (best(promptLogits) === best(expected)) seen.agreed++;
      seen.deviation = Math.max(seen.deviation, relativeDeviation(promptLogits, expected));
    }
  }
  return seen;
}

const best = (logits: Float32Array): number => logits.indexOf(Math.max(...logits));
