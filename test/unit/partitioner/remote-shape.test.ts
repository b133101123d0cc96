/** What a plan for a device with memory of its own has and refuses. */
import { expect, it } from 'vitest';
import { planPartition } from '../../../partitioner/partition.js';
import { attendSegment } from '../../../proto/attend-segment.js';
import { goldenFolder } from '../../support/golden.js';

const planOf = async (name: string) =>
  (await planPartition({ folder: goldenFolder(name), tp: 1, dtype: 'fp32', device: 'webgpu' })).plan;

it('has attention for each window of the layers, weights in blocks, and no panels', async () => {
  const { attend, deviceClass, format } = await planOf('gemma3');
  expect(deviceClass).toBe('webgpu');
  expect(format.layout).toBe('blocks');
  expect(attend.copyRows).toBe('copy-rows');
  const windows = attend.variants.map(({ when }) => when.window);
  expect(windows).toContain(null);
  expect(new Set(windows).size).toBe(2);
  for (const { segment, when } of attend.variants) {
    expect(attendSegment(attend, when.queries, when.window)).toBe(segment);
  }
  expect(attendSegment(attend, 'token')).toBeUndefined();
});

it.each([
  ['bloom', 'ALiBi'],
  ['gemma2', 'soft-capped attention scores'],
  ['gpt-oss', 'attention sinks'],
  ['encoder-bert', 'attention in both directions'],
])('refuses %s by what the device does not compute', async (name, what) => {
  await expect(planOf(name)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(`has ${what}, which is computed on the CPU alone`),
  });
});
