/**
 * Waits until a child process has started. Without a free descriptor or process, spawn() gives a child without streams and says so
 * in an `error` event: who touches a stream first throws, and an event that nobody hears ends the server.
 *
 * In      a child, in the turn of the event loop that spawned it; its name for the error
 * Out     the child
 * Errors  WORKER_FAILED: the system refused it. An abort by the caller's signal is passed on as it is
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { ServingError } from '../../proto/errors.js';

export async function spawnedChild<C extends ChildProcess>(child: C, name: string): Promise<C> {
  try {
    await once(child, 'spawn');
  } catch (error) {
    if (child.pid !== undefined || (error as Error).name === 'AbortError') throw error;
    throw new ServingError('WORKER_FAILED', `${name} could not be started: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return child;
}
