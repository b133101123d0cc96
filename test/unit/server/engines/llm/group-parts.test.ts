/** How a group's ranks are launched. */
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { type GroupPartsOptions, makeGroupParts } from '../../../../../server/engines/llm/group-parts.js';
import { JobQueue } from '../../../../../server/jobs/job-queue.js';
import { LocalLauncher } from '../../../../../server/machine/ranks/local-launcher.js';

const options = (fields: Partial<GroupPartsOptions>): GroupPartsOptions => ({
  config: { stepTimeoutSeconds: 60, modelLoadingTimeoutSeconds: 60 } as GroupPartsOptions['config'],
  model: { manifest: { worldSize: 1, model: {} } } as GroupPartsOptions['model'],
  sizes: {
    ...{ maxSlots: 4, slotTokens: 64, maxStepTokens: 68, warmSlots: 0 },
    swap: { slots: 0, kvTokens: 0 },
  } as GroupPartsOptions['sizes'],
  queue: new JobQueue('toy', 1, 1000),
  mayStart: () => 1,
  launcher: new LocalLauncher('worker.js'),
  logger: pino({ level: 'silent' }),
  hooks: {},
  threads: 2,
  sharesCores: false,
  ...fields,
});
const threadsSpin = (fields: Partial<GroupPartsOptions>): boolean | undefined =>
  makeGroupParts(options(fields)).coordinator.launch.threadsSpin;

describe('the parts of a group', () => {
  it('let threads that wait for work spin only where nobody else wants their cores', () => {
    expect(threadsSpin({})).toBe(true);
    expect(threadsSpin({ threads: 1 })).toBe(false);
    expect(threadsSpin({ sharesCores: true })).toBe(false);
  });

  it('guess tokens as the key says, with memory for them on the ranks; without it what is known runs together', () => {
    const config = {
      ...{ stepTimeoutSeconds: 60, modelLoadingTimeoutSeconds: 60 },
      speculation: { tokens: 3, shortest: 2, longest: 4 },
    } as GroupPartsOptions['config'];
    const sizes = { ...options({}).sizes, maxDrafts: 32 };
    const { coordinator, loop } = makeGroupParts(options({ config, sizes }));
    expect(coordinator.launch.maxDrafts).toBe(32);
    expect(loop.drafts).toMatchObject({ perSequence: 3, perStep: 32 });
    expect(loop.drafts?.guess([7, 8, 9, 7, 8], 1)).toEqual([9]);
    expect(makeGroupParts(options({ sizes })).loop.drafts).toMatchObject({ perSequence: 0, perStep: 32 });
    // An embedding model.
    expect(
      makeGroupParts(options({ config, sizes: { ...sizes, maxDrafts: 0 } })).loop.drafts,
    ).toBeUndefined();
  });
});
