/**
 * How the server's process ends: once, drained, and with a line in the log that says why.
 *
 * In      SIGTERM and SIGINT; an error that nobody caught: an exception, or the rejection of a promise
 * Out     `stop` is called once; exit code 0 after a signal, 1 after an error or where stopping fails. A second signal ends the process
 *         at once (the kernel ends its workers)
 * Limits  an error while it stops is logged and does not begin anew; a stop that hangs after an error is cut off after
 *         `stopLimitMs`: nobody may be there to send the second signal
 * Errors  none
 *
 * A server that goes on after an error that nobody foresaw is half alive: a lock that is never given back, a queue that nobody reads.
 */
import type { Logger } from 'pino';

export interface ProcessEnd {
  /** It ends, or will. */
  readonly stopping: boolean;
}

export function endWithProcess(stop: () => Promise<void>, logger: Logger, stopLimitMs: number): ProcessEnd {
  const state = { stopping: false };
  const end = (code: number): void => {
    state.stopping = true;
    stop().then(
      () => process.exit(code),
      (error: unknown) => {
        logger.error({ err: error }, 'stopping failed');
        process.exit(1);
      },
    );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (state.stopping) process.exit(1);
      logger.info(
        `${signal}: no new requests; running ones may end. A second signal ends the server at once`,
      );
      end(0);
    });
  }
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      const what = event === 'uncaughtException' ? 'an exception' : 'a rejected promise';
      logger.fatal(
        { err: error },
        `${what} that nobody caught: a bug. No new requests; running ones may end`,
      );
      if (state.stopping) return;
      setTimeout(() => process.exit(1), stopLimitMs).unref();
      end(1);
    });
  }
  return state;
}
