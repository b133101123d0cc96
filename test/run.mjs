/**
 * `npm test` and its variants, from a fresh clone to one line of result.
 *
 * In      --check     what CI runs (the same as no flag)
 *         --long      also dist/test/long
 *         --coverage  lines covered per folder, over all processes that the tests start; fails under MIN_LINES_PERCENT
 * Out     the steps' own output; the last line is `N passed, N failed`; exit code 0 only without a failure
 * Limits  plain JavaScript on Node alone, since it also installs and builds
 * Errors  a failed step (install, build, lint, a worker that crashed) counts as one failure; tests run even if lint fails
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT, unsupportedPlatform } from '../server/bootstrap.mjs';

const FLAGS = ['--check', '--long', '--coverage'];
const MIN_LINES_PERCENT = 90;
/** Folders whose lines are measured. proto has no behaviour of its own worth a bound. */
const COVERED_FOLDERS = ['partitioner', 'shard-worker', 'server'];

const flags = process.argv.slice(2);
const unknown = flags.filter((flag) => !FLAGS.includes(flag));
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

/** Runs vitest over the folders; a file that could not be loaded, or an error outside any test, counts as one failure. */
function runTests(folders, env) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-test-'));
  const report = path.join(scratch, 'report.json');
  const paths = folders.map((folder) => `dist/test/${folder}/`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const succeeded = runTool('vitest', ['run', ...paths, '--passWithNoTests', ...reporters], env);
  let passed = 0;
  let failed = 0;
  try {
    const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
    for (const file of testResults) {
      const count = (status) => file.assertionResults.filter((test) => test.status === status).length;
      passed += count('passed');
      failed += count('failed');
      if (file.status === 'failed' && count('failed') === 0) failed += 1;
    }
  } catch (error) {
    console.error(`vitest left no report: ${error.message}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  if (!succeeded && failed === 0) failed = 1;
  return { passed, failed };
}

/** Reads the coverage that every process wrote and prints lines per folder. True when no folder is under the bound. */
async function reportCoverage(rawFolder) {
  const { Report } = await import('c8');
  const outFolder = path.join(ROOT, 'coverage');
  // The scripts that ran are dist/*.js; their source maps name the *.ts files that the summary is about.
  await new Report({
    tempDirectory: rawFolder,
    reportsDirectory: outFolder,
    reporter: ['json-summary', 'lcovonly'],
    src: [ROOT],
    all: true,
    include: COVERED_FOLDERS.map((folder) => `dist/${folder}/**`),
    exclude: [],
    extension: ['.js'],
    excludeAfterRemap: false,
    excludeNodeModules: true,
    omitRelative: true,
    mergeAsync: true,
    resolve: '',
  }).run();
  const summary = JSON.parse(readFileSync(path.join(outFolder, 'coverage-summary.json'), 'utf8'));
  let enough = true;
  for (const folder of COVERED_FOLDERS) {
    const files = Object.entries(summary).filter(([file]) =>
      file.startsWith(path.join(ROOT, folder) + path.sep),
    );
    const covered = files.reduce((sum, [, { lines }]) => sum + lines.covered, 0);
    const total = files.reduce((sum, [, { lines }]) => sum + lines.total, 0);
    const percent = total === 0 ? 0 : (100 * covered) / total;
    console.log(`coverage ${folder}: ${percent.toFixed(1)} % of ${total} lines in ${files.length} files`);
    if (percent < MIN_LINES_PERCENT) {
      enough = false;
      console.log(`  under the bound of ${MIN_LINES_PERCENT} %; the least covered:`);
      const worst = files.sort((a, b) => a[1].lines.pct - b[1].lines.pct).slice(0, 8);
      for (const [file, { lines }] of worst) console.log(`  ${lines.pct} % ${path.relative(ROOT, file)}`);
    }
  }
  return enough;
}

function finish(passed, failed) {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

const refusal = unsupportedPlatform();
if (refusal) console.error(refusal);
if (refusal || !ensureInstalled({ needDev: true }) || !ensureBuilt()) finish(0, 1);

let failedSteps = 0;
if (!runTool('biome', ['check', '--error-on-warnings', '.'])) failedSteps += 1;

const folders = ['unit', 'tidy', 'integration', 'e2e', ...(flags.includes('--long') ? ['long'] : [])];
const env = { ...process.env };
const rawCoverage = path.join(ROOT, 'coverage', 'raw');
if (flags.includes('--coverage')) {
  rmSync(path.join(ROOT, 'coverage'), { recursive: true, force: true });
  mkdirSync(rawCoverage, { recursive: true });
  env.NODE_V8_COVERAGE = rawCoverage;
}
const { passed, failed } = runTests(folders, env);
if (flags.includes('--coverage') && !(await reportCoverage(rawCoverage))) failedSteps += 1;
finish(passed, failed + failedSteps);
