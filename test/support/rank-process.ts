/** A test's ranks in processes of their own: forked programs that report by messages of a `type`, `failed` among them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface RankProcess<Report> {
  child: ChildProcess;
  /** The next report of that type, or the one that says why there is none. */
  next(type: string): Promise<Report>;
}

/**
 * @param program compiled module that awaits `task` as its first message; killed by the caller
 * @param env beside this process's own
 */
export function startRankProcess<Task extends object, Report extends { type: string }>(
  program: URL,
  task: Task,
  env: NodeJS.ProcessEnv = {},
): RankProcess<Report> {
  const child = fork(fileURLToPath(program), { env: { ...process.env, ...env } });
  const reports: Report[] = [];
  child.on('message', (report) => reports.push(report as Report));
  child.send(task);
  const next = async (type: string): Promise<Report> => {
    for (;;) {
      const index = reports.findIndex((report) => report.type === type || report.type === 'failed');
      if (index >= 0) return reports.splice(index, 1)[0]!;
      await once(child, 'message');
    }
  };
  return { child, next };
}
