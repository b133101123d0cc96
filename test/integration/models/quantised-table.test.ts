/** The table of what int8 and int4 do to the goldens (test/golden/README.md) is what they do: a quarter a run, all in test:long. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { drawn } from '../../fixtures/seeded-random.js';
import { goldenFolder } from '../../support/golden.js';
import { GOLDEN_FAMILIES } from '../../support/golden-families.js';
import { quantisedGolden } from '../../support/golden-quantised.js';

/** | family | int8 agreed of positions | deviation | int4 … | deviation | */
const ROW = /^\| `([a-z0-9-]+)` \| (\d+) of (\d+) \| ([\d.]+) \| (?:(\d+) of (\d+) \| ([\d.]+)|– \| –) \|$/gm;
/** Other processors round sums otherwise: a token more or less, a fifth of the deviation. */
const TOKENS = 1;
const SHARE = 0.2;

const rows = [...readFileSync(path.join(goldenFolder(''), 'README.md'), 'utf8').matchAll(ROW)];

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'golden-table-'));
});
afterAll(() => rmSync(store, { recursive: true }));

it('has a row for every family', () => {
  const names = rows.map(([, name]) => name);
  expect(
    GOLDEN_FAMILIES.filter((family) => !family.startsWith('encoder') && !names.includes(family)),
  ).toEqual([]);
});

const some = drawn(
  rows.map(([, name]) => name ?? ''),
  4,
);
const table = rows.map(([, name, ...figures]) => [name ?? '', figures] as const);
it.each(table.filter(([name]) => some.includes(name)))('%s', async (name, figures) => {
  for (const [index, dtype] of (['int8', 'int4'] as const).entries()) {
    const [agreed, positions, deviation] = figures.slice(index * 3, index * 3 + 3);
    if (agreed === undefined) continue;
    const seen = await quantisedGolden(name, dtype, store);
    expect(seen.positions).toBe(Number(positions));
    expect(Math.abs(seen.agreed - Number(agreed))).toBeLessThanOrEqual(TOKENS);
    expect(Math.abs(seen.deviation - Number(deviation))).toBeLessThanOrEqual(
      Number(deviation) * SHARE + 0.005,
    );
  }
});
