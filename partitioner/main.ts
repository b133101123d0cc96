/**
 * Command line of the partitioner: `partition DIR --tp N …` (run by `shardserve partition`, and by the server as a child).
 *
 * In      arguments (command-line.ts)
 * Out     plan, progress and sizes on standard output (report.ts); shards in the store
 * Errors  one line on standard error, or one `error` event with `--json`; exit code 1. A signal, or a reader of standard
 *         output that goes away, ends the work: nothing half-written is left. Exit code 130 (SIGINT), 143 (SIGTERM)
 */
import { once } from 'node:events';
import { ServingError } from '../proto/errors.js';
import { type CommandLine, parseCommandLine, USAGE } from './command/command-line.js';
import { JsonReporter, type Reporter, TextReporter } from './command/report.js';
import { calibrated } from './importance/calibrated.js';
import { type PartitionOptions, partition, planPartition } from './partition.js';
import { summarisePlan } from './plan/plan-table.js';
import { verifyShards } from './verify/verify.js';

const EXIT_SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

process.exitCode = await main(process.argv.slice(2));

/** @returns exit code */
async function main(args: string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(USAGE);
    return 0;
  }
  const reporter = createReporter(args.includes('--json') || args.includes('--request'));
  const abort = new AbortController();
  let exitCode = 1;
  for (const [signal, code] of Object.entries(EXIT_SIGNALS)) {
    process.once(signal, () => {
      exitCode = code;
      abort.abort(new ServingError('CANCELLED', `ended by ${signal}`));
    });
  }
  // Nobody reads any more: the parent is gone.
  process.stdout.on('error', () => abort.abort(new ServingError('CANCELLED', 'standard output was closed')));
  try {
    await run(parseCommandLine(args), reporter, abort.signal);
    return 0;
  } catch (error) {
    const known = ServingError.from(error);
    reporter.error(known);
    if (known.code === 'INTERNAL') console.error(known.cause);
    return exitCode;
  }
}

async function run(commandLine: CommandLine, reporter: Reporter, signal: AbortSignal): Promise<void> {
  const { verify, planOnly, calibrate, waits, ...given } = commandLine;
  let options: PartitionOptions = given;
  if (planOnly || waits) {
    const { plan, report } = await planPartition(options);
    reporter.plan(summarisePlan(plan, report));
    if (planOnly) return;
    await goOn(signal);
  }
  if (calibrate) {
    const importance = await calibrated(options, signal, () => reporter.calibration());
    options = { ...options, importance };
  }
  const result = await partition({
    ...options,
    signal,
    ...(waits ? {} : { onPlan: (plan, report) => reporter.plan(summarisePlan(plan, report)) }),
    onProgress: (doneBytes, totalBytes) => reporter.progress(doneBytes, totalBytes),
  });
  if (verify) reporter.verified(await verifyShards({ ...options, shardFolder: result.shardFolder, signal }));
  reporter.done(result);
}

/** Until a line has come on standard input. @throws ServingError CANCELLED */
async function goOn(signal: AbortSignal): Promise<void> {
  const ended = once(process.stdin, 'end', { signal }).then(() => false);
  const told = once(process.stdin, 'data', { signal }).then(() => true);
  let isTold: boolean;
  try {
    isTold = await Promise.race([told, ended]);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    ended.catch(() => {});
    told.catch(() => {});
  }
  process.stdin.destroy();
  if (!isTold) throw new ServingError('CANCELLED', 'standard input ended before the plan was taken');
}

function createReporter(isJson: boolean): Reporter {
  const write = (line: string): void => void process.stdout.write(`${line}\n`);
  const writeError = (line: string): void => void process.stderr.write(`${line}\n`);
  if (isJson) return new JsonReporter(write);
  return new TextReporter(write, writeError, process.stdout.isTTY && process.stderr.isTTY);
}
