/**
 * A shard worker: one process, one rank, one device. Started by the coordinator (proto/worker-launch.ts), never by hand.
 *
 * Life    check the files → join the other ranks → load → warm up → Ready → steps, one after the other → Shutdown
 * Errors  any failure is told to the coordinator (Failure) and ends the process with 1: a rank that failed once is out of
 *         step with the others for good. The kernel kills the worker when the server dies.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Pair } from 'zeromq';
import { encodeFromWorker, type FromWorker } from '../proto/control.js';
import { dieWithParent } from '../proto/die-with-parent.js';
import { ServingError } from '../proto/errors.js';
import { CONTROL_VERSION } from '../proto/limits.js';
import type { Manifest } from '../proto/manifest.js';
import { controlAddress, type WorkerLaunch } from '../proto/worker-launch.js';
import type { Collective } from './collective/collective.js';
import { deviceSum } from './collective/device-sum.js';
import { linkDevices } from './collective/link-devices.js';
import { connectSharedMemoryCollective } from './collective/shared-memory-group.js';
import { SingleRankCollective } from './collective/single-rank.js';
import { type SumOverRanks, sumAsTree } from './collective/tree-sum.js';
import { connectZeromqCollective } from './collective/zeromq.js';
import { controlMessages } from './control-messages.js';
import type { Device } from './device/device.js';
import { openDevice } from './device/open-device.js';
import { Executor } from './executor.js';
import { LateMasks } from './late-masks.js';
import { loadKernels } from './native/kernels.js';
import { openKvCache } from './open-kv-cache.js';
import { readManifest } from './read-manifest.js';
import { Chooser } from './sampler/chooser.js';
import { readSegment, verifyFiles } from './shard-files.js';
import { StepRunner } from './step-runner.js';

const FAILURE_LINGER_MS = 5000;

type Unaddressed<T> = T extends { rank: number } ? Omit<T, 'rank'> : never;
type Send = (message: Unaddressed<FromWorker>) => Promise<void>;

async function main(launch: WorkerLaunch): Promise<void> {
  const control = new Pair({ linger: 1000 });
  control.connect(controlAddress(launch.socketFolder, launch.rank));
  const send: Send = (message) =>
    control.send(encodeFromWorker({ rank: launch.rank, ...message } as FromWorker));
  try {
    const lateMasks = new LateMasks();
    const runner = await start(launch, send, lateMasks);
    await serve(control, runner, launch.rank, send, lateMasks);
  } catch (error) {
    // The server logs what its workers write. What is sent, clients read.
    if (!(error instanceof ServingError)) process.stderr.write(`${inspect(error)}\n`);
    await send({ body: 'failure', failure: describeFailure(error) });
    process.exitCode = 1;
    // The coordinator kills the group when it has read that. A process that ends at once may take the frame with it.
    await sleep(FAILURE_LINGER_MS);
  }
  // What was sent still leaves (linger). Sockets of the mesh would keep the process, so it is ended.
  control.close();
  process.exit();
}

/** Everything up to the point where steps can come. */
async function start(launch: WorkerLaunch, send: Send, lateMasks: LateMasks): Promise<StepRunner> {
  const { rank, shardFolder, worldSize } = launch;
  const started = performance.now();
  const manifest = await readManifest(shardFolder, launch.manifestSha256);
  if (manifest.worldSize !== worldSize) {
    throw new ServingError('SHARDS_INVALID', `shards are for ${manifest.worldSize} ranks, not ${worldSize}`);
  }
  await verifyFiles(shardFolder, manifest, rank, launch.verifyChecksums);
  const weightBytes = (manifest.ranks[rank]?.weights.bytes ?? 0) + (manifest.shared?.bytes ?? 0);

  const device = openDevice(launch);
  // The server logs what its workers write.
  if (rank === 0) for (const note of loadKernels()?.notes ?? []) process.stderr.write(`${note}\n`);
  const host = await joinRanks(launch, sumOverRanksOf(device, manifest, launch));
  const collective = await linkDevices(host, {
    device,
    wanted: launch.collective,
    timeoutMs: launch.collectiveTimeoutMs,
    say: (line) => process.stdout.write(`${line}\n`),
  });
  const kvCache = openKvCache({
    ...{ device, manifest, shardFolder, rank },
    maxSlots: launch.maxSlots + (launch.warmSlots ?? 0),
    slotTokens: launch.slotTokens,
    type: launch.kvType ?? 'fp32',
  });
  const executor = new Executor({
    manifest,
    shardFolder,
    rank,
    device,
    collective,
    kvCache,
    maxStepTokens: launch.maxStepTokens,
    maxRows: launch.maxSlots + (launch.maxDrafts ?? 0),
    capturesRuns: process.env.SHARDSERVE_GPU_CAPTURE !== 'off',
  });
  await executor.load((done, total) => {
    void send({
      body: 'loading',
      loading: { doneBytes: (weightBytes * done) / total, totalBytes: weightBytes },
    });
  });
  const loaded = performance.now();
  const chooser = new Chooser({
    collective,
    vocabSize: manifest.model.vocabSize,
    vocabPerRank: manifest.perRank.vocab,
  });
  const runner = new StepRunner({ executor, kvCache, chooser, collective, weightBytes, lateMasks });
  await runner.warmUp();
  executor.trim();
  await send({
    body: 'ready',
    ready: {
      pid: process.pid,
      loadMs: loaded - started,
      warmUpMs: performance.now() - loaded,
      version: CONTROL_VERSION,
    },
  });
  return runner;
}

/** What the collective adds partial sums with. */
function sumOverRanksOf(device: Device, manifest: Manifest, launch: WorkerLaunch): SumOverRanks {
  const { rank, shardFolder } = launch;
  const { sumSegment, worldSize } = manifest;
  // Sums come from the device by way of this process anyway.
  if (sumSegment === null || device.isRemote) return sumAsTree;
  const inputs = Array.from({ length: worldSize }, (_, peer) => `rank-${peer}`);
  const graph = readSegment(shardFolder, rank, sumSegment);
  return deviceSum(device, device.loadSegment(graph, shardFolder, inputs, ['sum']));
}

function joinRanks(launch: WorkerLaunch, sum: SumOverRanks): Promise<Collective> | Collective {
  const { collective, collectiveTimeoutMs, rank, socketFolder, worldSize } = launch;
  if (worldSize === 1) return new SingleRankCollective();
  const options = { rank, worldSize, socketFolder, timeoutMs: collectiveTimeoutMs, sum };
  const compression = launch.collectiveCompression ?? 'none';
  if (collective === 'zmq') return connectZeromqCollective({ ...options, compression });
  const onFallback = (reason: string): void => {
    // The server logs what its workers write.
    if (rank === 0) process.stderr.write(`no shared memory between the ranks, ZeroMQ instead: ${reason}\n`);
  };
  return connectSharedMemoryCollective({
    ...options,
    spinUs: launch.collectiveSpinUs ?? (availableParallelism() < worldSize ? 0 : 50),
    ...(collective === 'shm' ? {} : { onFallback }),
  });
}

/** Steps, one after the other, until Shutdown. */
async function serve(
  control: Pair,
  runner: StepRunner,
  rank: number,
  send: Send,
  lateMasks: LateMasks,
): Promise<void> {
  for await (const message of controlMessages(control, lateMasks)) {
    switch (message.body) {
      case 'step': {
        const result = await runner.run(message.step);
        if (rank === 0) await send({ body: 'result', result });
        break;
      }
      case 'inspect':
        await send({ body: 'inspection', inspection: runner.inspect(message.inspect.id) });
        break;
      case 'shutdown':
        return;
    }
  }
}

function describeFailure(error: unknown): { code: string; message: string } {
  if (error instanceof ServingError) return { code: error.code, message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'WORKER_FAILED', message };
}

// Ctrl-C reaches the whole process group; the server decides when its workers end.
process.on('SIGINT', () => {});
const launch = JSON.parse(process.argv[2] ?? 'null') as WorkerLaunch | null;
assert(launch, 'a shard worker is started by the server, with its launch parameters as one argument');
if (dieWithParent(launch.parentPid)) await main(launch);
