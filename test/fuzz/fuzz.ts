/**
 * `npm run fuzz`: every parser of strangers' bytes, for as long as is asked.
 *
 * In      --cases N (of all targets together; 100,000), --seconds N (begins anew with the next seed until then), --seed N, --target NAME,
 *         --case N (one case of a target alone)
 * Out     a table: cases, findings, memory; each finding with the line that runs it again; exit code 1 when there is one
 */
import { parseArgs } from 'node:util';
import { ALL_TARGETS } from './all-targets.js';
import { type Finding, MAX_RSS_BYTES, runFuzz } from './run-fuzz.js';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '100000' },
    seconds: { type: 'string', default: '0' },
    seed: { type: 'string' },
    target: { type: 'string' },
    case: { type: 'string' },
  },
});
const targets = ALL_TARGETS.filter(({ name }) => values.target === undefined || name === values.target);
if (targets.length === 0) {
  console.error(
    `There is no target ${values.target}; there are ${ALL_TARGETS.map(({ name }) => name).join(', ')}`,
  );
  process.exit(2);
}
const weights = targets.reduce((sum, { weight }) => sum + weight, 0);
const endMs = performance.now() + Number(values.seconds) * 1000;
const totals = new Map(
  targets.map(({ name }) => [name, { cases: 0, refused: 0, rss: 0, findings: [] as Finding[] }]),
);
let seed = Number(values.seed ?? Date.now() % 1_000_000_000);

do {
  for (const { name, weight } of targets) {
    const one = values.case === undefined ? null : Number(values.case);
    const count = one === null ? Math.ceil((Number(values.cases) * weight) / weights) : 1;
    const outcome = await runFuzz({ target: name, seed, from: one ?? 0, count });
    const total = totals.get(name)!;
    total.cases += outcome.cases;
    total.refused += outcome.refused;
    total.rss = Math.max(total.rss, outcome.rss);
    total.findings.push(...outcome.findings);
    for (const { error, index, kind } of outcome.findings)
      console.log(
        `${kind} in ${name}: npm run fuzz -- --target ${name} --seed ${seed} --case ${index}\n${error}\n`,
      );
    if (outcome.rss > MAX_RSS_BYTES)
      console.log(`${name}: ${outcome.rss} bytes resident, of at most ${MAX_RSS_BYTES}`);
  }
  seed += 1;
} while (performance.now() < endMs);

const rows = [...totals].map(([name, { cases, findings, refused, rss }]) => ({
  name,
  cases,
  refused,
  findings: findings.length,
  rssMb: Math.round(rss / 1e6),
}));
console.table(rows);
const bad = [...totals.values()].some(({ findings, rss }) => findings.length > 0 || rss > MAX_RSS_BYTES);
console.log(`${rows.reduce((sum, { cases }) => sum + cases, 0)} cases, last seed ${seed - 1}`);
process.exit(bad ? 1 : 0);
