/**
 * Ranks as processes of this host, with their sockets in a private folder of the group's own.
 *
 * In      path of the worker's compiled program
 * Out     RankLauncher
 */
import type { Logger } from 'pino';
import type { GroupLaunch, RankEvents, RankGroup, RankHandle, RankLauncher } from './rank-launcher.js';
import { makeSocketFolder, removeSocketFolder } from './socket-folder.js';
import { WorkerProcess } from './worker-process.js';

export class LocalLauncher implements RankLauncher {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  async newGroup(): Promise<RankGroup> {
    return new LocalGroup(this.#program, await makeSocketFolder());
  }
}

class LocalGroup implements RankGroup {
  readonly #program: string;
  readonly #socketFolder: string;

  constructor(program: string, socketFolder: string) {
    this.#program = program;
    this.#socketFolder = socketFolder;
  }

  start(launch: GroupLaunch & { rank: number }, events: RankEvents, logger: Logger): Promise<RankHandle> {
    const whole = { ...launch, socketFolder: this.#socketFolder, parentPid: process.pid };
    return WorkerProcess.start(this.#program, whole, logger, events);
  }

  close(): Promise<Error | null> {
    return removeSocketFolder(this.#socketFolder);
  }
}
