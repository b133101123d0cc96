/**
 * `npm test` and its variants, from a fresh clone to one line of result.
 *
 * In      --check     what CI runs (the same as no flag)
 *         --long      also dist/test/long, and every family where others draw some of them; with names behind it only the files of
 *                     dist/test/long that have one of them in theirs
 *         --coverage  lines covered per folder, over all processes that the tests start; fails under MIN_LINES_PERCENT
 * Out     the steps' own output; the last line is `N passed, N failed, N skipped`; exit code 0 only without a failure
 * Limits  plain JavaScript on Node alone, since it also installs and builds
 * Errors  a failed step (install, build, lint, a worker that crashed) counts as one failure; tests run even if lint fails. A skip that
 *         expected-skips.mjs does not expect on this machine is a failure
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT, unsupportedPlatform } from '../server/bootstrap.mjs';
import { unexpectedSkips } from './expected-skips.mjs';

const FLAGS = ['--check', '--long', '--coverage'];
const MIN_LINES_PERCENT = 90;
/** Folders whose lines are measured. proto has no behaviour of its own worth a bound. */
const COVERED_FOLDERS = ['partitioner', 'shard-worker', 'server'];

const flags = process.argv.slice(2);
const names = flags.includes('--long') ? flags.filter((flag) => !flag.startsWith('-')) : [];
const unknown = flags.filter((flag) => !FLAGS.includes(flag) && !names.includes(flag));
if (unknown.length > 0) {
  console.error(`Unknown flag ${unknown.join(' ')}; known are ${FLAGS.join(', ')}.`);
  process.exit(2);
}

/** A command of node_modules/.bin; true when it ended with 0. */
function runTool(name, args, env = process.env) {
  const result = spawnSync(path.join(ROOT, 'node_modules', '.bin', name), args, {
    cwd: ROOT,
    stdio: 'inherit',
    env,
  });
  return result.status === 0;
}

/** Runs vitest over folders or files; a file that could not be loaded, or an error outside any test, counts as one failure. */
function runTests(paths, env) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-test-'));
  const report = path.join(scratch, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const succeeded = runTool('vitest', ['run', ...paths, ...reporters], env);
  let passed = 0;
  let failed = 0;
  const skipped = [];
  try {
    const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
    for (const file of testResults) {
      const count = (status) => file.assertionResults.filter((test) => test.status === status).length;
      passed += count('passed');
      failed += count('failed');
      for (const { fullName, status } of file.assertionResults) {
        if (!['passed', 'failed'].includes(status)) skipped.push({ file: file.name, name: fullName });
      }
      if (file.status === 'failed' && count('failed') === 0) failed += 1;
    }
  } catch (error) {
    console.error(`vitest left no report: ${error.message}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  if (!succeeded && failed === 0) failed = 1;
  const unexpected = unexpectedSkips(skipped);
  for (const sentence of unexpected) console.error(sentence);
  return { passed, failed: failed + unexpected.length, skipped: skipped.length };
}

function finish(passed, failed, skipped) {
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed === 0 ? 0 : 1);
}

const refusal = unsupportedPlatform();
if (refusal) console.error(refusal);
if (refusal || !ensureInstalled({ needDev: true }) || !ensureBuilt()) finish(0, 1, 0);

let failedSteps = 0;
if (names.length === 0 && !runTool('biome', ['check', '--error-on-warnings', '.'])) failedSteps += 1;

const folders = ['unit', 'tidy', 'integration', 'e2e', ...(flags.includes('--long') ? ['long'] : [])];
const env = { ...process.env, ...(flags.includes('--long') && { WHOLE_SUITES: '1' }) };
const rawCoverage = path.join(ROOT, 'coverage', 'raw');
if (flags.includes('--coverage')) {
  rmSync(path.join(ROOT, 'coverage'), { recursive: true, force: true });
  mkdirSync(rawCoverage, { recursive: true });
  env.NODE_V8_COVERAGE = rawCoverage;
}
const paths =
  names.length > 0
    ? names.map((name) => `dist/test/long/${name}`)
    : folders.map((one) => `dist/test/${one}/`);
const { passed, failed, skipped } = runTests(paths, env);
if (flags.includes('--coverage')) {
  // Imported late: c8 is there only once packages are installed.
  const { reportCoverage } = await import('./coverage.mjs');
  if (!(await reportCoverage(ROOT, rawCoverage, COVERED_FOLDERS, MIN_LINES_PERCENT))) failedSteps += 1;
}
finish(passed, failed + failedSteps, skipped);
