/**
 * The steps of `npm run check:device`, in the order in which they matter: goldens, then speed, then sums between GPUs.
 *
 * In      an open device, its kind, a folder
 * Out     a row a step
 * Errors  what a step throws: the caller makes it its verdict
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { partition } from '../../partitioner/partition.js';
import type { Device, RemoteDevice } from '../../shard-worker/device/device.js';
import { PROBE_MODEL } from '../../shard-worker/device/probe-model.js';
import { goldenFolder } from '../support/golden.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import type { RankReport, RankTask } from '../support/nccl-rank.js';
import { startRankProcess } from '../support/rank-process.js';
import { CASES, type CheckedRow, checkCase, NO_FIGURES } from './device-check.js';

export type DeviceKind = 'webgpu' | 'cuda' | 'software';

export interface StepContext {
  kind: DeviceKind;
  device: RemoteDevice;
  /** Folder for shards. */
  store: string;
  /** NVML's; null: the driver does not tell. */
  freeBytes: () => number | null;
  /** Of NVIDIA's, that are visible. */
  gpus: number;
  cudaFolder: string;
}

export interface DeviceStep {
  name: string;
  run(context: StepContext): Promise<CheckedRow>;
}

/** TinyLlama's shape with random weights: a step reads 600 MB. */
const SPEED_SHAPE = fileURLToPath(new URL('../../../partitioner/shapes/tinyllama-1.1b', import.meta.url));
const SPEED_TOKENS = { few: 8, many: 40 };
/** A GPU in software only shows that the step runs. */
const SOFTWARE_TOKENS = { few: 1, many: 4 };
const SPEED_PROMPT = Array.from({ length: 16 }, (_, at) => 100 + at);
/** More than a GPU's cache has, not more than a buffer of Vulkan's may be. */
const COPY_FLOATS = 2 ** 25;
const COPIES = 40;

export function deviceSteps(kind: DeviceKind): DeviceStep[] {
  const goldens = CASES.map((one) => ({
    name: `${one.name} ${one.dtype} tp ${one.tp}`,
    run: (context: StepContext) => checkCase(one, context),
  }));
  const speed = { name: 'speed', run: checkSpeed };
  return [...goldens, speed, ...(kind === 'cuda' ? [{ name: 'nccl', run: checkNccl }] : [])];
}

/** Bytes a second of reading and writing: y = −x over buffers that no cache holds. */
function copySpeed(device: RemoteDevice, floats: number): number {
  const segment = device.loadSegment(PROBE_MODEL, '.', ['x'], ['y']);
  const buffers = [device.allocate('float32', floats), device.allocate('float32', floats)] as const;
  const [x, y] = buffers.map((buffer) => device.tensor(buffer, [floats]));
  const binding = segment.newBinding();
  binding.setInput(0, x!);
  binding.setOutput(0, y!);
  const seen = new Float32Array(new ArrayBuffer(1024));
  const run = (times: number): number => {
    const started = performance.now();
    for (let time = 0; time < times; time++) segment.run(binding);
    device.download(buffers[1], seen, 1);
    return performance.now() - started;
  };
  run(3);
  const ms = run(COPIES);
  for (const tensor of [x!, y!]) device.releaseTensor(tensor);
  for (const buffer of buffers) buffer.free();
  return (2 * 4 * floats * COPIES * 1000) / ms;
}

async function checkSpeed({ device, freeBytes, kind, store }: StepContext): Promise<CheckedRow> {
  const isSoftware = kind === 'software';
  const copied = copySpeed(device, isSoftware ? 2 ** 18 : COPY_FLOATS);
  const freeBefore = freeBytes();
  const { manifest, shardFolder } = await partition({
    ...{ folder: isSoftware ? goldenFolder('llama') : SPEED_SHAPE, randomWeights: true },
    ...{ outStore: store, tp: 1, dtype: 'int4', device: device.deviceClass },
  });
  const slots = { slotTokens: 128, device: (): Device => device };
  const run = greedyRuns(await createInProcessGroup(shardFolder, slots));
  const timed = async (tokens: number): Promise<number> => {
    const started = performance.now();
    await run(SPEED_PROMPT, tokens);
    return performance.now() - started;
  };
  const { few, many } = isSoftware ? SOFTWARE_TOKENS : SPEED_TOKENS;
  // Once for the shaders; once more, since runs are captured when a step of their shape comes for the second time.
  await timed(few);
  await timed(few);
  const fewMs = await timed(few);
  const stepMs = ((await timed(many)) - fewMs) / (many - few);
  const freeAfter = freeBytes();
  const read = ((manifest.ranks[0]?.weights.bytes ?? 0) * 1000) / stepMs;
  const gb = (bytes: number): string => String(Number((bytes / 1e9).toPrecision(2)));
  const share = Number(((100 * read) / copied).toPrecision(2));
  return {
    ...{
      ...NO_FIGURES,
      name: isSoftware ? 'speed of llama' : 'speed of tinyllama-1.1b',
      dtype: 'int4',
      tp: 1,
      stepMs,
      verdict: 'right',
    },
    memoryBytes: freeBefore === null || freeAfter === null ? null : freeBefore - freeAfter,
    note: `${gb(read)} GB/s of weights, ${share} % of the ${gb(copied)} GB/s of a copy`,
  };
}

/** Two ranks where there are two GPUs; else one, which shows that the library loads, joins and runs in the stream. */
async function checkNccl(context: StepContext): Promise<CheckedRow> {
  const none = { ...NO_FIGURES, name: 'nccl' };
  const { cudaFolder, device, gpus } = context;
  const { links } = device;
  if (links === null || typeof links === 'string') return { ...none, verdict: links ?? 'there is none' };
  if (gpus >= 2) return { ...none, tp: 2, ...(await twoRanks(cudaFolder)) };
  const link = await links.join({ rank: 0, worldSize: 1, id: links.newId(), timeoutMs: 30_000 });
  const [partial, sum] = [device.allocate('float32', 1024), device.allocate('float32', 1024)] as const;
  const values = Float32Array.from({ length: 1024 }, (_, at) => at / 3);
  device.upload(partial, values, values.length);
  link.sum(partial, sum, values.length);
  const seen = new Float32Array(1024);
  device.download(sum, seen, seen.length);
  link.isDone();
  link.abort();
  const isRight = seen.every((value, at) => value === values[at]);
  return {
    ...none,
    tp: 1,
    verdict: isRight ? 'right' : 'other numbers',
    note: `${links.name}, one GPU alone`,
  };
}

export async function twoRanks(folder: string): Promise<Pick<CheckedRow, 'verdict' | 'note'>> {
  const socketFolder = mkdtempSync(path.join(tmpdir(), 'check-nccl-'));
  const program = new URL('../support/nccl-rank.js', import.meta.url);
  const ranks = [0, 1].map((rank) => {
    const task = { rank, worldSize: 2, socketFolder, folder, gpu: rank, timeoutMs: 60_000 };
    return startRankProcess<RankTask, RankReport>(program, { ...task, count: 20, idleAtEnd: true });
  });
  try {
    const [joined] = await Promise.all(ranks.map(({ next }) => next('joined')));
    if (joined?.type !== 'joined' || !joined.isLinked) return { verdict: wordsOf(joined), note: '' };
    const done = await Promise.all(ranks.map(({ next }) => next('done')));
    const wrong = done.find(
      (one) => one.type !== 'done' || one.values.some((value) => value !== 3 * 2 ** 19),
    );
    const [first] = done;
    if (wrong !== undefined || first?.type !== 'done') return { verdict: wordsOf(wrong), note: '' };
    return { verdict: 'right', note: `${joined.lines.join()}; ${first.usASum} µs a sum of 4 KB` };
  } finally {
    for (const { child } of ranks) child.kill('SIGKILL');
    rmSync(socketFolder, { recursive: true, force: true });
  }
}

function wordsOf(report: RankReport | undefined): string {
  if (report?.type === 'failed') return report.message;
  if (report?.type === 'joined') return report.lines.join();
  return report?.type === 'done' ? `sums are ${report.values.join()}` : 'no answer';
}
