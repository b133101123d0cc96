/** How a group's ranks are launched. */
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { type GroupPartsOptions, makeGroupParts } from '../../../../../server/engines/llm/group-parts.js';
import { JobQueue } from '../../../../../server/jobs/job-queue.js';
import { LocalLauncher } from '../../../../../server/machine/ranks/local-launcher.js';

const options = (fields: Partial<GroupPartsOptions>): GroupPartsOptions => ({
  config: { stepTimeoutSeconds: 60, modelLoadingTimeoutSeconds: 60 } as GroupPartsOptions['config'],
  model: { manifest: { worldSize: 1, model: {} } } as GroupPartsOptions['model'],
  sizes: { maxSlots: 4, slotTokens: 64, maxStepTokens: 68, warmSlots: 0 } as GroupPartsOptions['sizes'],
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
});
