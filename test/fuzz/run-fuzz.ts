/**
 * Runs cases of one target in a process apart, and finds which case a crash or a hang was. A process that was not harmed takes the next
 * task: with all the parsers it takes longer to begin than a thousand cases take.
 *
 * In      a target, a seed, the first case and how many
 * Out     how many ran, what was found, the largest memory
 * Limits  HEAP_MB of the process; a case that is not done after HANG_MS, half of them its process's own time, or MAX_ROUNDS times as long,
 *         is one that hangs: on a busy machine a process may stand still
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
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

/** One that is ready and has nothing to do. */
let spare: ChildProcess | null = null;

/** Resolves when it takes tasks. */
async function readyChild(): Promise<ChildProcess> {
  const kept = spare;
  spare = null;
  if (kept?.connected) return kept;
  const child = fork(PROGRAM, {
    execArgv: [`--max-old-space-size=${HEAP_MB}`],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  child.stderr!.setEncoding('utf8');
  const isReady = await Promise.race([
    once(child, 'message').then(() => true),
    once(child, 'exit').then(() => false),
  ]);
  assert(isReady, `${PROGRAM} ended before it took a task`);
  return child;
}

/** It does not keep this process alive, and ends with it. */
function keep(child: ChildProcess): void {
  spare = child;
  child.unref();
  child.channel?.unref();
  (child.stderr as Socket).unref();
}

async function runOnce(task: FuzzTask, findings: Finding[], hangMs: number): Promise<Run> {
  const child = await readyChild();
  child.ref();
  child.channel?.ref();
  let stderr = '';
  const onStderr = (text: string): void => {
    stderr = (stderr + text).slice(-2000);
  };
  child.stderr!.on('data', onStderr);
  const run: Run = { ended: 'crash', at: task.from, rss: 0, expected: 0, stderr: '' };
  let usedMs = processorMs(child.pid);
  let rounds = 0;
  const hang = setTimeout(() => {
    if (processorMs(child.pid) - usedMs < hangMs / 2 && ++rounds < MAX_ROUNDS) {
      hang.refresh();
      return;
    }
    run.ended = 'hang';
    child.kill('SIGKILL');
  }, hangMs);
  const over = new AbortController();
  const { signal } = over;
  const onMessage = (report: FuzzReport): void => {
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
    } else if (report.kind !== 'ready') {
      run.rss = Math.max(run.rss, report.rss);
      if (report.kind === 'at') run.at = report.index;
      else {
        run.ended = 'done';
        run.expected = report.expected;
        over.abort();
      }
    }
  };
  child.on('message', onMessage);
  // It may have gone before it is asked; its 'close' does not always come.
  const gone = [once(child, 'exit', { signal }), once(child.stderr!, 'close', { signal })];
  child.send(task, () => {});
  await Promise.allSettled(gone);
  clearTimeout(hang);
  child.off('message', onMessage);
  child.stderr!.off('data', onStderr);
  if (run.ended === 'done') keep(child);
  return { ...run, stderr };
}
