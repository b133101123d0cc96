/**
 * Runs cases of one target in a process of its own, and finds which case a crash or a hang was.
 *
 * In      a target, a seed, the first case and how many
 * Out     how many ran, what was found, the largest memory
 * Limits  HEAP_MB of the process; a case that is not done after HANG_MS, half of them its process's own time, or MAX_ROUNDS times as long,
 *         is one that hangs: on a busy machine a process takes long to begin
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { FuzzReport, FuzzTask } from './fuzz-child.js';

export const MAX_RSS_BYTES = 1 << 30;
const HEAP_MB = 512;
const HANG_MS = 30_000;
const MAX_ROUNDS = 20;
const MS_PER_TICK = 10;
const PROGRAM = fileURLToPath(new URL('./fuzz-child.js', import.meta.url));

export interface Finding {
  target: string;
  seed: number;
  index: number;
  kind: 'error' | 'crash' | 'hang';
  error: string;
}

export interface FuzzOutcome {
  cases: number;
  findings: Finding[];
  /** Cases that the parser refused in its own words. */
  refused: number;
  rss: number;
}

type Task = Omit<FuzzTask, 'oneByOne'>;

export async function runFuzz(task: Task, hangMs = HANG_MS): Promise<FuzzOutcome> {
  const findings: Finding[] = [];
  let { from } = task;
  let rss = 0;
  let refused = 0;
  const end = task.from + task.count;
  while (from < end) {
    const run = await runOnce({ ...task, from, count: end - from, oneByOne: false }, findings, hangMs);
    rss = Math.max(rss, run.rss);
    refused += run.expected;
    if (run.ended === 'done') break;
    // Somewhere behind the case that was told last: once more, each told before it runs.
    const exact = await runOnce(
      { ...task, from: run.at, count: end - run.at, oneByOne: true },
      findings,
      hangMs,
    );
    if (exact.ended === 'done') break;
    findings.push({ ...task, index: exact.at, kind: exact.ended, error: exact.stderr });
    from = exact.at + 1;
  }
  const unique = new Map(findings.map((finding) => [finding.index, finding]));
  return { cases: task.count, findings: [...unique.values()], refused, rss };
}

interface Run {
  ended: 'done' | 'crash' | 'hang';
  at: number;
  rss: number;
  expected: number;
  stderr: string;
}

/** 0: the process is gone. */
function processorMs(pid: number | undefined): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
  } catch {
    return 0;
  }
}

async function runOnce(task: FuzzTask, findings: Finding[], hangMs: number): Promise<Run> {
  const child: ChildProcess = fork(PROGRAM, {
    execArgv: [`--max-old-space-size=${HEAP_MB}`],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-2000);
  });
  const run: Run = { ended: 'crash', at: task.from, rss: 0, expected: 0, stderr: '' };
  let usedMs = 0;
  let rounds = 0;
  const hang = setTimeout(() => {
    if (processorMs(child.pid) - usedMs < hangMs / 2 && ++rounds < MAX_ROUNDS) {
      hang.refresh();
      return;
    }
    run.ended = 'hang';
    child.kill('SIGKILL');
  }, hangMs);
  child.on('message', (report: FuzzReport) => {
    usedMs = processorMs(child.pid);
    rounds = 0;
    hang.refresh();
    if (report.kind === 'finding') {
      findings.push({
        target: task.target,
        seed: task.seed,
        index: report.index,
        kind: 'error',
        error: report.error,
      });
      return;
    }
    run.rss = Math.max(run.rss, report.rss);
    if (report.kind === 'at') run.at = report.index;
    else {
      run.ended = 'done';
      run.expected = report.expected;
      child.disconnect();
    }
  });
  child.send(task);
  const stderrEnded = new Promise<void>((resolve) => child.stderr!.once('close', () => resolve()));
  // Not its 'close': after a disconnect it does not come.
  await new Promise<void>((resolve) => child.once('exit', () => resolve()));
  if (run.ended !== 'done') await stderrEnded;
  clearTimeout(hang);
  return { ...run, stderr };
}
