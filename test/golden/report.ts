/**
 * `npm run test:golden`: every decoder's golden at every degree its heads allow, in one process with the in-memory collective.
 *
 * In      --json: one object a line instead of a table; --only NAME; --quantised: int8 and int4 at degree 1 instead
 * Out     family × degree with the largest deviation seen and whether all greedy tokens are the golden's; the last line sums up
 * Errors  exit code 1 when a deviation is above RELATIVE_TOLERANCE or a token is another
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ServingError } from '../../proto/errors.js';
import { goldenFolder } from '../support/golden.js';
import { GOLDEN_FAMILIES, RELATIVE_TOLERANCE } from '../support/golden-families.js';
import { quantisedGolden } from '../support/golden-quantised.js';
import { runGolden } from '../support/golden-run.js';

const DEGREES = [1, 2, 3, 4, 8];
/** Goldens of test/integration/models/golden.test.ts, which keep the logits of all positions. */
const OTHERS = ['llama', 'llama-linear', 'mistral', 'qwen2', 'qwen3'];
/** 4-bit codes that int4 refuses, in words. */
const REFUSED_AS = ['CHECKPOINT_INVALID', 'CONFIG_INVALID', 'TENSOR_PARALLEL_INVALID'];

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quantised: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const store = mkdtempSync(path.join(tmpdir(), 'golden-report-'));
let runs = 0;
let largest = 0;
let equal = true;

function tell(row: Record<string, string | number | boolean>): void {
  runs++;
  if (values.json) console.log(JSON.stringify(row));
  else console.log(Object.values(row).join('\t'));
}

/** null: this degree or format is refused. */
async function unlessRefused<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ServingError && REFUSED_AS.includes(error.code)) return null;
    throw error;
  }
}

try {
  const names = [...OTHERS, ...GOLDEN_FAMILIES].sort().filter((name) => !values.only || name === values.only);
  for (const name of names) {
    if (values.quantised) {
      for (const dtype of ['int8', 'int4'] as const) {
        const seen = await unlessRefused(quantisedGolden(name, dtype, store));
        if (seen) tell({ family: name, dtype, ...seen, deviation: Number(seen.deviation.toPrecision(2)) });
      }
      continue;
    }
    for (const tp of DEGREES) {
      const seen = await unlessRefused(runGolden({ name, modelFolder: goldenFolder(name), store, tp }));
      if (!seen) continue;
      tell({ family: name, tp, deviation: Number(seen.deviation.toPrecision(2)), tokensEqual: seen.tokensEqual });
      // A deviation that is no number stays.
      largest = seen.deviation <= largest ? largest : seen.deviation;
      equal &&= seen.tokensEqual;
    }
  }
  const isGood = values.quantised || (equal && largest <= RELATIVE_TOLERANCE);
  if (values.quantised) console.log(JSON.stringify({ families: names.length, runs }));
  else console.log(JSON.stringify({ families: names.length, runs, largestDeviation: largest, tokensEqual: equal }));
  process.exitCode = isGood ? 0 : 1;
} finally {
  rmSync(store, { recursive: true });
}
