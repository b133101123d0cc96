/** What the coordinator says reaches steps in order, and masks at once: a step that runs may wait for them. */
import { expect, it } from 'vitest';
import { encodeToWorker, type ToWorker } from '../../../proto/control.js';
import { controlMessages } from '../../../shard-worker/control-messages.js';
import { LateMasks } from '../../../shard-worker/late-masks.js';

const inspect = (id: number): ToWorker => ({ body: 'inspect', inspect: { id } });
const masks = (id: number): ToWorker => ({
  body: 'masks',
  masks: { masks: [{ sequence: 5, mask: { ids: [id], bits: new Uint8Array() } }] },
});

async function* frames(messages: readonly ToWorker[], error?: Error): AsyncGenerator<Uint8Array[]> {
  for (const message of messages) yield [encodeToWorker(message)];
  if (error) throw error;
}

it('masks go past what waits, all else comes in order, up to what broke the channel', async () => {
  const lateMasks = new LateMasks();
  const broken = new Error('a frame too long');
  const said = controlMessages(frames([inspect(1), inspect(2), masks(90)], broken), lateMasks);
  expect((await said.next()).value).toMatchObject({ inspect: { id: 1 } });
  // The second waits.
  expect((await lateMasks.take(5))?.ids).toEqual([90]);
  await expect(lateMasks.take(5)).rejects.toBe(broken);
  expect((await said.next()).value).toMatchObject({ inspect: { id: 2 } });
  await expect(said.next()).rejects.toBe(broken);
});

it('a step that waits for masks waits no longer when the group is asked to end', async () => {
  const lateMasks = new LateMasks();
  const waiting = lateMasks.take(5);
  const said = controlMessages(frames([inspect(1), { body: 'shutdown', shutdown: {} }]), lateMasks);
  await said.next();
  expect(await waiting).toBeNull();
  expect((await said.next()).value).toMatchObject({ body: 'shutdown' });
});

it('nor where the channel is closed', async () => {
  const lateMasks = new LateMasks();
  const waiting = lateMasks.take(5);
  waiting.catch(() => {});
  expect((await controlMessages(frames([]), lateMasks).next()).done).toBe(true);
  await expect(waiting).rejects.toThrow('the control channel was closed');
});
