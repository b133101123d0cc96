/**
 * `npm run test:real`: fetches and converts the real model where it is not there yet, then runs dist/test/real.
 *
 * Out     vitest's report; without Python, the package index or 3 GB of disk the tests are skipped by name, and counted as skipped
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureBuilt, ensureInstalled, ROOT } from '../../server/bootstrap.mjs';

if (!ensureInstalled({ needDev: true }) || !ensureBuilt()) process.exit(1);
const script = fileURLToPath(new URL('./make_real_model.py', import.meta.url));
const made = spawnSync('python3', [script], { stdio: ['ignore', 'inherit', 'inherit'] });
if (made.status !== 0)
  console.error(`The real model could not be made (${made.error?.message ?? `exit code ${made.status}`}).`);
const vitest = path.join(ROOT, 'node_modules', '.bin', 'vitest');
const run = spawnSync(vitest, ['run', '--project', 'real', ...process.argv.slice(2)], {
  cwd: ROOT,
  stdio: 'inherit',
});
process.exit(run.status ?? 1);
