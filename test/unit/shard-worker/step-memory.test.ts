/** What a large step grew is given back after some small ones, and never what steps still need. */
import { expect, it } from 'vitest';
import { StepMemory } from '../../../shard-worker/step-memory.js';

const ROW_BYTES = 8192;
const ROW_FLOATS = ROW_BYTES / 4;

function createMemory(): { told: string[]; memory: StepMemory } {
  const told: string[] = [];
  const host = new Float32Array(1);
  const memory = new StepMemory({
    device: { isRemote: false, shrinkAfterNextRun: () => told.push('shrink') },
    collective: { discard: (_, floats) => told.push(`collective from ${floats / ROW_FLOATS}`) },
    buffers: [
      {
        rowBytes: ROW_BYTES,
        host,
        memory: {
          discard: (from: number, bytes: number) =>
            told.push(`worker ${from / ROW_BYTES}, ${bytes / ROW_BYTES}`),
        } as never,
      },
      { rowBytes: ROW_BYTES, host, memory: null },
    ],
  });
  return { told, memory };
}

it('gives back what lies behind the kept tokens once eight small steps came in a row', () => {
  const { memory, told } = createMemory();
  memory.afterStep(512);
  for (let step = 0; step < 7; step++) memory.afterStep(1);
  memory.afterStep(300);
  for (let step = 0; step < 7; step++) memory.afterStep(64);
  expect(told).toEqual([]);
  memory.afterStep(1);
  expect(told).toEqual(['worker 64, 448', 'collective from 64', 'shrink']);
});

it('gives back what a crowd needs no more where it has shrunk to half', () => {
  const { memory, told } = createMemory();
  memory.afterStep(640);
  for (let step = 0; step < 7; step++) memory.afterStep(128 - step);
  expect(told).toEqual([]);
  memory.afterStep(90);
  expect(told.splice(0)).toEqual(['worker 128, 512', 'collective from 128', 'shrink']);
  for (let step = 0; step < 30; step++) memory.afterStep(120);
  expect(told).toEqual([]);
  for (let step = 0; step < 8; step++) memory.afterStep(9);
  expect(told).toEqual(['worker 64, 64', 'collective from 64', 'shrink']);
});

it('does so once for each time that it grew', () => {
  const { memory, told } = createMemory();
  memory.afterStep(65);
  for (let step = 0; step < 30; step++) memory.afterStep(2);
  expect(told).toHaveLength(3);
  memory.afterStep(80);
  for (let step = 0; step < 8; step++) memory.afterStep(2);
  expect(told).toHaveLength(6);
});

it('has nothing to give back where all steps are small', () => {
  const { memory, told } = createMemory();
  for (let step = 0; step < 100; step++) memory.afterStep(64);
  expect(told).toEqual([]);
});
