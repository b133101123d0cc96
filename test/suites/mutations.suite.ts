/**
 * Each key of a golden's config.json changed by itself: our logits, or an encoder's vectors and scores, move as transformers' do
 * (test/golden/make_mutations.py), or the checkpoint is refused. Nothing is computed as if the key were not there.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { partition } from '../../partitioner/partition.js';
import { ServingError } from '../../proto/errors.js';
import { goldenFolder, readGolden } from '../support/golden.js';
import { readEncoderGolden } from '../support/golden-encoders.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../support/golden-families.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import { textVectors } from '../support/text-vectors.js';

export interface Mutation {
  golden: string;
  /** Absent: config.json. */
  file?: string;
  path: string[];
  value: unknown;
  /** Which of the golden's texts, where it is an encoder's. */
  texts?: number[];
  /**
   * What transformers makes of the medium prompt's last position: every KEPT-th logit; of an encoder every KEPT_OF_VECTOR-th number of
   * each text's vector. base64 of float32.
   */
  logits: string;
}

/** As in make_mutations.py. */
const KEPT = 8;
const KEPT_OF_VECTOR = 4;

export function readMutations(): Mutation[] {
  const lines = gunzipSync(readFileSync(path.join(goldenFolder(''), 'mutations.jsonl.gz'))).toString();
  return lines
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Mutation);
}

export const nameOf = ({ file, golden, path: keys, value }: Mutation): string =>
  `${golden}: ${file === undefined ? '' : `${file} `}${keys.join('.')} = ${JSON.stringify(value)}`;

/** @returns "as transformers", "refused: …", or what is wrong */
export async function outcomeOf(mutation: Mutation): Promise<string> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'mutation-'));
  try {
    const folder = path.join(scratch, 'model');
    writeMutated(mutation, folder);
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
    const bytes = Buffer.from(mutation.logits, 'base64');
    const theirs = new Float32Array(new Uint8Array(bytes).buffer);
    const { texts } = mutation;
    const ours =
      texts === undefined
        ? await lastLogits(mutation, shardFolder)
        : await vectors(mutation, texts, shardFolder);
    if (theirs.length !== ours.length) return `${ours.length} logits, not ${theirs.length}`;
    const deviation = relativeDeviation(ours, theirs);
    // Tenfold: another setting may be rounded worse than the golden's.
    return deviation <= 10 * RELATIVE_TOLERANCE ? 'as transformers' : `off by ${deviation.toPrecision(2)}`;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

async function lastLogits({ golden }: Mutation, shardFolder: string): Promise<Float32Array> {
  const { ids } = readGolden(golden).prompts[1]!;
  const run = greedyRuns(await createInProcessGroup(shardFolder));
  const { promptLogits } = await run(ids, 1, [ids.length]);
  return promptLogits.filter((_, index) => index % KEPT === 0);
}

async function vectors(
  { golden }: Mutation,
  chosen: readonly number[],
  shardFolder: string,
): Promise<Float32Array> {
  const run = textVectors(await createInProcessGroup(shardFolder, { maxSlots: chosen.length }));
  const texts = readEncoderGolden(golden).texts;
  const seen = await run(chosen.map((index) => texts[index]!));
  return Float32Array.from(
    seen.flatMap((vector) => vector.filter((_, index) => index % KEPT_OF_VECTOR === 0)),
  );
}

function writeMutated({ file = 'config.json', golden, path: keys, value }: Mutation, folder: string): void {
  cpSync(goldenFolder(golden), folder, { recursive: true });
  const changed = path.join(folder, file);
  const raw = JSON.parse(readFileSync(changed, 'utf8')) as Record<string, unknown>;
  let at = raw;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[keys.at(-1)!] = value;
  writeFileSync(changed, JSON.stringify(raw));
}
