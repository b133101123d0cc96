/**
 * The contract of who starts ranks: processes on this host (local-launcher.ts), or, one day, on others.
 *
 * In      how a rank shall run
 * Out     a handle of it: what it says, what it is told, how it ended
 */
import type { Logger } from 'pino';
import type { FromWorker, ToWorker } from '../../../proto/control.js';
import type { WorkerLaunch } from '../../../proto/worker-launch.js';

/** What all ranks of a group are started with; the launcher adds where their sockets are. */
export type GroupLaunch = Omit<WorkerLaunch, 'rank' | 'socketFolder' | 'parentPid'>;

export interface RankEvents {
  onMessage(message: FromWorker): void;
  /** A frame that is not ours, of another rank, or a socket error. */
  onBroken(error: unknown): void;
}

export interface RankHandle {
  readonly rank: number;
  /** undefined: it has none on this host, or could not be started. */
  readonly pid: number | undefined;
  /** Resolves when it has ended: how, in words ("was killed by SIGKILL"). Never rejects. */
  readonly exited: Promise<string>;
  /** Queued; messages arrive in the order of the calls. */
  send(message: ToWorker): void;
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Nothing comes or goes from now on. */
  close(): void;
}

/** The ranks of one life of a group: they find each other by what the launcher has made for them. */
export interface RankGroup {
  start(launch: GroupLaunch & { rank: number }, events: RankEvents, logger: Logger): Promise<RankHandle>;
  /** All its ranks have ended and are closed. @returns what could not be removed, null: nothing is left */
  close(): Promise<Error | null>;
}

export interface RankLauncher {
  newGroup(): Promise<RankGroup>;
}
