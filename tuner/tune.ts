/**
 * `shardserve tune`: finds the configuration of a server that answers best within limits, and says whether it is really better.
 *
 * In      a plan (our YAML, or Model Analyzer's) or a few options: see HELP
 * Out     a journal, tables, a report, the winner's files; the summary on standard output; exit code 0, 1 when nothing met the constraints,
 *         2 when nothing could be measured, 130 when it was stopped
 * Life    plan → journal → default, search, repeats → reports. Ctrl-C ends after the running measurement, twice at once
 */
import { AssertionError } from 'node:assert';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { Goals } from './decide/goals.js';
import { Journal, type JournalHeader, readJournal } from './journal/journal.js';
import { readOptions, TUNE_HELP, type TuneOptions } from './plan/tune-options.js';
import type { TunePlan } from './plan/tune-plan.js';
import { PlanSchema } from './plan/tune-schema.js';
import { browserPictures } from './report/browser-pictures.js';
import { RequestLog } from './report/request-log.js';
import { settingsWords } from './report/settings-words.js';
import { summaryOf } from './report/summary.js';
import { writeReports } from './report/write-reports.js';
import type { Measurement } from './run/measurement.js';
import { type Outcome, outcomeOf } from './run/outcome.js';
import { ServerMeasurer } from './run/server-measurer.js';
import { budgetOf, TuneRun, type TuneRunOptions } from './run/tune-run.js';
import { Space } from './space/space.js';
import { conditions, hostWords } from './target/conditions.js';
import { Terminal } from './terminal.js';

const STOPPED = 130;

export async function main(argv: readonly string[]): Promise<number> {
  const terminal = new Terminal();
  if (argv.includes('--help') || argv.includes('-h')) {
    terminal.say(TUNE_HELP);
    return 0;
  }
  if (argv.includes('--schema')) {
    terminal.say(JSON.stringify(PlanSchema, null, 2));
    return 0;
  }
  let options: TuneOptions;
  try {
    options = readOptions(argv);
  } catch (error) {
    terminal.note((error as Error).message);
    return 2;
  }
  for (const note of options.notes) terminal.note(note);
  try {
    return await (options.command === 'profile' ? profile(options, terminal) : analyze(options, terminal));
  } catch (error) {
    // A plan that does not fit, a journal of elsewhere, a file that cannot be written. A bug keeps its stack.
    if (error instanceof AssertionError || !(error instanceof Error) || error instanceof TypeError)
      throw error;
    terminal.note(error.message);
    return 2;
  }
}

async function profile({ force, journal: file, plan }: TuneOptions, terminal: Terminal): Promise<number> {
  mkdirSync(path.dirname(file), { recursive: true });
  const header = conditions(plan);
  const run = runOptions(plan);
  const { compare, search, total } = budgetOf(run);
  terminal.note(
    `At most ${total} measurements: ${search} of default and search (${plan.search.mode}), ${compare} to repeat the best ${plan.compare.top} and the default.`,
  );
  const journal = Journal.open(file, header, { force });
  if (journal.measurements.length > 0) {
    terminal.note(`${journal.measurements.length} of them are in ${file} already.`);
  }
  const stop = { requested: false };
  const abort = new AbortController();
  const log = plan.keepRequests ? new RequestLog(path.join(plan.output, 'results', 'requests.jsonl')) : null;
  const measurer = new ServerMeasurer({
    plan,
    workFolder: path.join(plan.output, 'work'),
    signal: abort.signal,
    ...(log === null ? {} : { onRecord: (question, model, record) => log.write(question, model, record) }),
  });
  const onSignal = (): void => {
    if (stop.requested) abort.abort();
    stop.requested = true;
    terminal.note(
      abort.signal.aborted
        ? 'Stopping at once: the running measurement is lost.'
        : 'Stopping after the running measurement; once more: at once. The same command goes on from there.',
    );
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const names = new Map<string, string>();
  const nameOf = (one: { settings: Measurement['settings'] }): string => {
    const models = plan.models.map(({ name }) => name);
    const words = Object.keys(one.settings).length === 0 ? 'default' : settingsWords(one.settings, models);
    names.set(words, words);
    return words;
  };
  try {
    const { outcome, wasStopped } = await new TuneRun(run, {
      measure: async (question) => {
        const body = await measurer.measure(question);
        // A measurement that was cut short is none.
        if (abort.signal.aborted) throw new Stopped();
        return body;
      },
      store: journal,
      stop,
      onStep: (step) => terminal.step(step, nameOf(step.question)),
      onMeasured: (measurement, isNew) => terminal.measured(measurement, nameOf(measurement), isNew),
    }).run();
    await report(plan, outcome, header, terminal);
    return wasStopped ? STOPPED : exitCode(outcome);
  } catch (error) {
    if (abort.signal.aborted) return STOPPED;
    throw error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    await measurer.close();
    log?.close();
    journal.close();
  }
}

class Stopped extends Error {}

/** The same measurements under these goals; nothing is measured. */
async function analyze({ command, journal: file, plan }: TuneOptions, terminal: Terminal): Promise<number> {
  const found = readJournal(file);
  if (found === null || found.measurements.length === 0) {
    terminal.note(`${file} has no measurement: \`tune profile\` makes them`);
    return 2;
  }
  const outcome = outcomeOf(found.measurements, runOptions(plan).goals, plan.verdict);
  terminal.note(`${command}: ${found.measurements.length} measurements of ${file}`);
  await report(plan, outcome, found.header, terminal);
  return exitCode(outcome);
}

async function report(
  plan: TunePlan,
  outcome: Outcome,
  header: JournalHeader,
  terminal: Terminal,
): Promise<void> {
  const summary = summaryOf(outcome, plan, header.host ?? hostWords());
  const all = outcome.ranked.flatMap(({ measurements, repeats }) => [...measurements, ...repeats]);
  const at =
    all
      .map((one) => one.at)
      .sort()
      .at(-1) ?? '';
  const files = writeReports({ plan, outcome, summary, header, at }, plan.output);
  terminal.say(summary.headline);
  for (const line of summary.lines) terminal.say(`- ${line}`);
  const page = files.find((file) => file.endsWith('.html'));
  const pictures = page === undefined || !plan.pictures ? null : await browserPictures(page);
  files.push(...(pictures?.files ?? []));
  for (const line of pictures?.console ?? []) terminal.note(`The page's console: ${line}`);
  terminal.note(`Written: ${files.map((file) => path.relative(process.cwd(), file)).join(' ')}`);
}

function exitCode(outcome: Outcome): number {
  if (outcome.ranked.every(({ best }) => best === null)) return 2;
  return outcome.passing === 0 ? 1 : 0;
}

function runOptions(plan: TunePlan): TuneRunOptions {
  return {
    space: new Space(plan.dimensions),
    loads: plan.loads,
    goals: new Goals(plan.models.map((model) => ({ ...model, model: model.name }))),
    search: plan.search,
    compare: plan.compare,
    verdict: plan.verdict,
  };
}
