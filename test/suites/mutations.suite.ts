/**
 * Each key of a golden's config.json changed by itself: our logits move as transformers' do (test/golden/make_mutations.py), or the
 * checkpoint is refused. Nothing is computed as if the key were not there.
 */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { partition } from '../../partitioner/partition.js';
import { ServingError } from '../../proto/errors.js';
import { goldenFolder, readGolden } from '../support/golden.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../support/golden-families.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';

export interface Mutation {
  golden: string;
  path: string[];
  value: unknown;
  /** What transformers makes of the medium prompt's last position: every KEPT-th logit, base64 of float32. */
  logits: string;
}

/** As in make_mutations.py. */
const KEPT = 8;

export function readMutations(): Mutation[] {
  const lines = gunzipSync(readFileSync(path.join(goldenFolder(''), 'mutations.jsonl.gz'))).toString();
  return lines
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Mutation);
}

export const nameOf = ({ golden, path: keys, value }: Mutation): string =>
  `${golden}: ${keys.join('.')} = ${JSON.stringify(value)}`;

/** @returns "as transformers", "refused: …", or what is wrong */
export async function outcomeOf(mutation: Mutation): Promise<string> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'mutation-'));
  try {
    const folder = path.join(scratch, 'model');
    writeMutated(mutation, folder);
    const prompt = readGolden(mutation.golden).prompts[1]!;
    let shardFolder: string;
    try {
      ({ shardFolder } = await partition({
        folder,
        outStore: path.join(scratch, 's'),
        tp: 1,
        dtype: 'fp32',
      }));
    } catch (error) {
      if (error instanceof ServingError) return `refused: ${error.message}`;
      throw error;
    }
    const run = greedyRuns(await createInProcessGroup(shardFolder));
    const { promptLogits } = await run(prompt.ids, 1, [prompt.ids.length]);
    const bytes = Buffer.from(mutation.logits, 'base64');
    const theirs = new Float32Array(new Uint8Array(bytes).buffer);
    const ours = promptLogits.filter((_, index) => index % KEPT === 0);
    if (theirs.length !== ours.length) return `${ours.length} logits, not ${theirs.length}`;
    const deviation = relativeDeviation(ours, theirs);
    // Tenfold: another setting may be rounded worse than the golden's.
    return deviation <= 10 * RELATIVE_TOLERANCE ? 'as transformers' : `off by ${deviation.toPrecision(2)}`;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function writeMutated({ golden, path: keys, value }: Mutation, folder: string): void {
  mkdirSync(folder);
  const from = goldenFolder(golden);
  for (const file of readdirSync(from).filter((name) => /\.safetensors/.test(name))) {
    symlinkSync(path.join(from, file), path.join(folder, file));
  }
  const raw = JSON.parse(readFileSync(path.join(from, 'config.json'), 'utf8')) as Record<string, unknown>;
  let at = raw;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[keys.at(-1)!] = value;
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(raw));
}
