/**
 * `shardserve benchmark`: measures the cases of a suite, and tells whether a saved run was better.
 *
 * In      a suite (our YAML or TorchServe's), a baseline
 * Out     report.md, results.csv, results.jsonl, results.json (the next baseline), of TorchServe's suites ab_report.csv; exit code 0: fine,
 *         1: a regression, 2: it could not be measured
 * How     rounds: every case once, then again, so that a slow hour meets all of them
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  abTable,
  type CaseResult,
  caseValues,
  resultsTable,
  suiteReport,
  torchServeReport,
} from './benchmark/benchmark-tables.js';
import { type CaseValues, type ComparisonRow, compareBaseline } from './benchmark/compare-baseline.js';
import { type BenchmarkCase, readSuite, type Suite } from './benchmark/suite.js';
import { csvOf } from './report/tables.js';
import { type Measurement, questionKey } from './run/measurement.js';
import { ServerMeasurer } from './run/server-measurer.js';
import { conditions } from './target/conditions.js';
import { Terminal } from './terminal.js';
import { METRICS, showMetric } from './units/metrics.js';

const HELP = `Usage: shardserve benchmark SUITE [options]

  SUITE                a YAML file: suite, repeats, defaults, cases (each a plan without a space: \`tune --schema\`); or TorchServe's
  --baseline FILE      results.json of an earlier run: a case that is worse beyond noise is a regression
  --save FILE          also write results.json there
  --output DIR         where the results go (default benchmark-results)
  --repeats N          instead of the suite's
  --only NAME,NAME     some of the cases
  --force              compare with a baseline of another host or model all the same

Exit code: 0 fine, 1 a regression, 2 it could not be measured.`;

const FORMAT = 1;
const MAX_BASELINE_BYTES = 64 * 2 ** 20;

interface Saved {
  benchmark: number;
  suite: string;
  at: string;
  conditions: Record<string, string>;
  cases: CaseValues;
}

export async function main(argv: readonly string[]): Promise<number> {
  const terminal = new Terminal();
  try {
    return await benchmark(argv, terminal);
  } catch (error) {
    terminal.note((error as Error).message);
    return 2;
  }
}

async function benchmark(argv: readonly string[], terminal: Terminal): Promise<number> {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      baseline: { type: 'string' },
      save: { type: 'string' },
      output: { type: 'string', default: 'benchmark-results' },
      repeats: { type: 'string' },
      only: { type: 'string' },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [file, another] = positionals;
  if (values.help || file === undefined || another !== undefined) {
    terminal.say(HELP);
    return values.help ? 0 : 2;
  }
  const suite = readSuite(file);
  for (const note of suite.notes) terminal.note(note);
  const only = values.only?.split(',');
  const cases = suite.cases.filter(({ name }) => only === undefined || only.includes(name));
  if (cases.length === 0)
    throw new Error(`--only names no case; there are ${suite.cases.map(({ name }) => name).join(', ')}`);
  const repeats = values.repeats === undefined ? suite.repeats : Number(values.repeats);
  const baseline = values.baseline === undefined ? null : readBaseline(values.baseline);
  const here = conditionsOf(cases);
  if (baseline !== null && !values.force) refuseOther(baseline, here, values.baseline!);
  const results = await measureAll(cases, repeats, values.output, terminal);
  const after = caseValues(results);
  const comparison = baseline === null ? null : compareBaseline(baseline.cases, after, suite.compare);
  const at = new Date().toISOString();
  write(values.output, suite, results, comparison, here, at);
  const saved: Saved = { benchmark: FORMAT, suite: suite.name, at, conditions: here, cases: after };
  for (const target of [path.join(values.output, 'results.json'), ...(values.save ? [values.save] : [])]) {
    mkdirSync(path.dirname(path.resolve(target)), { recursive: true });
    writeFileSync(target, `${JSON.stringify(saved, null, 1)}\n`);
  }
  return judged(results, comparison, baseline, terminal);
}

async function measureAll(
  cases: readonly BenchmarkCase[],
  repeats: number,
  output: string,
  terminal: Terminal,
): Promise<CaseResult[]> {
  const results: CaseResult[] = cases.map((one) => ({ case: one, repeats: [] }));
  let done = 0;
  for (let round = 1; round <= repeats; round++) {
    for (const result of results) {
      const { name, plan } = result.case;
      const question = { settings: {}, load: plan.loads[0]!, round };
      terminal.step({ stage: 'default', question, done: done++, atMost: cases.length * repeats }, name);
      const measurer = new ServerMeasurer({ plan, workFolder: path.resolve(output, 'work') });
      try {
        const body = await measurer.measure(question);
        const measurement: Measurement = {
          key: questionKey(question),
          at: new Date().toISOString(),
          ...question,
          ...body,
        };
        result.repeats.push(measurement);
        terminal.measured(measurement, name, true);
      } finally {
        await measurer.close();
      }
    }
  }
  return results;
}

function write(
  folder: string,
  suite: Suite,
  results: readonly CaseResult[],
  comparison: readonly ComparisonRow[] | null,
  here: Record<string, string>,
  at: string,
): void {
  mkdirSync(folder, { recursive: true });
  const put = (name: string, text: string): void => writeFileSync(path.join(folder, name), text);
  put('results.csv', csvOf(resultsTable(results)));
  put(
    'results.jsonl',
    results
      .flatMap(({ case: { name }, repeats }) =>
        repeats.map((one) => `${JSON.stringify({ case: name, ...one })}\n`),
      )
      .join(''),
  );
  const ours = suiteReport(suite.name, results, comparison, here, at);
  if (results.some(({ case: { torchServe } }) => torchServe !== null)) {
    put('ab_report.csv', csvOf(abTable(results)));
    put('report.md', torchServeReport(results, here.build ?? '', at));
    put('summary.md', ours);
  } else {
    put('report.md', ours);
  }
}

function judged(
  results: readonly CaseResult[],
  comparison: readonly ComparisonRow[] | null,
  baseline: Saved | null,
  terminal: Terminal,
): number {
  const failed = results.filter(({ repeats }) => repeats.some(({ outcome }) => outcome === 'infeasible'));
  for (const { case: one, repeats } of failed) {
    terminal.say(`${one.name} could not be measured: ${repeats.find(({ reason }) => reason)?.reason}`);
  }
  const worse = comparison?.filter(({ verdict }) => verdict === 'worse') ?? [];
  for (const row of comparison ?? []) {
    if (row.verdict === 'same') continue;
    const percent = `${row.change > 0 ? '+' : ''}${(100 * row.change).toFixed(1)} %`;
    terminal.say(
      `${row.caseName}: ${METRICS[row.metric].title} ${showMetric(row.metric, row.before)} → ${showMetric(row.metric, row.after)} (${percent}, p ${row.p.toFixed(3)}): ${row.verdict}`,
    );
  }
  const missing = results.filter(
    ({ case: { name } }) => baseline !== null && !Object.hasOwn(baseline.cases, name),
  );
  for (const { case: one } of missing) terminal.say(`${one.name} is not in the baseline`);
  if (failed.length > 0) return 2;
  if (worse.length > 0) {
    terminal.say(
      `${worse.length} of ${comparison?.length ?? 0} figures are worse than the baseline beyond noise.`,
    );
    return 1;
  }
  terminal.say(
    comparison === null
      ? `${results.length} cases measured.`
      : `No regression: ${comparison.length} figures of ${results.length} cases beside the baseline of ${baseline?.at}.`,
  );
  return 0;
}

/** What must be the same for figures to compare; the build is what is compared. */
function conditionsOf(cases: readonly BenchmarkCase[]): Record<string, string> {
  const all = cases.map(({ name, plan }) => ({ name, header: conditions(plan) }));
  return {
    host: all[0]!.header.host ?? '',
    build: all[0]!.header.build ?? '',
    ...Object.fromEntries(
      all.flatMap(({ header, name }) =>
        Object.entries(header)
          .filter(([key]) => key !== 'host' && key !== 'build')
          .map(([key, value]) => [`${name}: ${key}`, value]),
      ),
    ),
  };
}

function refuseOther(baseline: Saved, here: Record<string, string>, file: string): void {
  const differing = Object.entries(here).filter(
    ([name, value]) =>
      name !== 'build' && baseline.conditions[name] !== undefined && baseline.conditions[name] !== value,
  );
  if (differing.length === 0) return;
  const [name, value] = differing[0]!;
  throw new Error(
    `${file} was measured under other conditions: ${name} was ${baseline.conditions[name]} and is ${value}. --force compares all the same`,
  );
}

function readBaseline(file: string): Saved {
  if (!existsSync(file)) throw new Error(`the baseline ${file} is not there`);
  const text = readFileSync(file, 'utf8');
  if (text.length > MAX_BASELINE_BYTES) throw new Error(`the baseline ${file} has ${text.length} characters`);
  let saved: Partial<Saved>;
  try {
    saved = JSON.parse(text) as Partial<Saved>;
  } catch {
    throw new Error(`the baseline ${file} is not JSON`);
  }
  if (saved.benchmark !== FORMAT || typeof saved.cases !== 'object' || typeof saved.conditions !== 'object') {
    throw new Error(`${file} is no result of format ${FORMAT}`);
  }
  return saved as Saved;
}
