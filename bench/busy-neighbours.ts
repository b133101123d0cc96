/**
 * Processes that do nothing but use a core each, as a neighbour would.
 *
 * In      how many
 * Out     their ids; `stop`
 */
import { type ChildProcess, spawn } from 'node:child_process';

export class BusyNeighbours {
  readonly #processes: ChildProcess[];

  constructor(count: number) {
    // The end of its standard input ends it too, should this process die.
    const program =
      "process.stdin.on('end', () => process.exit()).resume(); setInterval(() => { const end = Date.now() + 100; while (Date.now() < end); }, 0)";
    this.#processes = Array.from({ length: count }, () =>
      spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'ignore', 'ignore'] }),
    );
  }

  get pids(): readonly (number | undefined)[] {
    return this.#processes.map(({ pid }) => pid);
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#processes.map(
        (child) =>
          new Promise((resolve) => {
            child.once('exit', resolve);
            child.kill('SIGKILL');
          }),
      ),
    );
  }
}
