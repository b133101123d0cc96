/**
 * `npm run simulate`: as many seeds as wanted, one after the other.
 *
 * In      options: see HELP
 * Out     what happened in all, and each failing seed with the line that runs it again; exit code 1 when there is one
 */
import { parseArgs } from 'node:util';
import { PLANTS, plant } from './planted-bugs.js';
import { simulate } from './simulate.js';

const HELP = `Usage: npm run simulate -- [options]

  --first N      first seed (default 1)
  --seeds N      how many (default 10000)
  --plant NAME   with a bug on purpose, until it is found: ${Object.keys(PLANTS).join(', ')}`;

const { values } = parseArgs({
  options: {
    first: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '10000' },
    plant: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) console.log(HELP);
else {
  if (values.plant !== undefined) plant(values.plant);
  const first = Number(values.first);
  const count = Number(values.seeds);
  const startMs = performance.now();
  const all = { seeds: 0, accepted: 0, steps: 0, faults: 0, resumed: 0, preempted: 0, virtualMs: 0 };
  let failed = 0;
  for (let seed = first; seed < first + count && failed < 10; seed++) {
    const outcome = await simulate(seed);
    all.seeds++;
    for (const key of ['accepted', 'steps', 'faults', 'resumed', 'preempted', 'virtualMs'] as const)
      all[key] += outcome[key];
    if (outcome.violations.length === 0) continue;
    failed++;
    console.log(`npm run simulate -- --first ${seed} --seeds 1\n  ${outcome.violations.join('\n  ')}`);
    if (values.plant !== undefined) break;
  }
  const seconds = (performance.now() - startMs) / 1000;
  console.log(
    `${all.seeds} seeds in ${seconds.toFixed(1)} s (${(all.seeds / seconds).toFixed(0)} a second): ${all.accepted} requests, ${all.steps} steps, ` +
      `${all.faults} faults, ${all.resumed} resumed, ${all.preempted} preempted, ${(all.virtualMs / 3_600_000).toFixed(1)} hours; ${failed} failed`,
  );
  process.exitCode = failed === 0 ? 0 : 1;
}
