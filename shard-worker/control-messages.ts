/**
 * What the coordinator says, in order, but for masks: they go past what waits, since the step that runs may wait for them.
 *
 * In      the rank's control socket
 * Out     messages
 * Limits  those of the codec (proto/control.ts); the coordinator has few steps on their way
 * Errors  the socket's and the codec's
 */
import assert from 'node:assert/strict';
import { decodeToWorker, type ToWorker } from '../proto/control.js';
import type { LateMasks } from './late-masks.js';

export type Ordered = Exclude<ToWorker, { body: 'masks' }>;

export async function* controlMessages(
  frames: AsyncIterable<readonly Uint8Array[]>,
  lateMasks: LateMasks,
): AsyncGenerator<Ordered> {
  const waiting: Ordered[] = [];
  let end: { error: unknown } | null = null;
  let wake = (): void => {};
  const readAll = async (): Promise<void> => {
    for await (const [frame] of frames) {
      assert(frame, 'a control message is one frame');
      const message = decodeToWorker(frame);
      if (message.body === 'masks') lateMasks.put(message.masks.masks);
      else {
        if (message.body === 'shutdown') lateMasks.end();
        waiting.push(message);
        wake();
      }
    }
  };
  readAll()
    .then(
      () => null,
      (error: unknown) => error,
    )
    .then((error) => {
      end = { error };
      lateMasks.fail(error ?? new Error('the control channel was closed'));
      wake();
    });
  for (;;) {
    const message = waiting.shift();
    if (message) yield message;
    else if (end) {
      const { error } = end as { error: unknown };
      if (error !== null) throw error;
      return;
    } else
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  }
}
