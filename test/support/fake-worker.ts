/**
 * A shard worker without a model, for tests of the coordinator: speaks the control protocol, and misbehaves as told.
 *
 * In      WorkerLaunch; its shardFolder holds a FakeWorkerPlan as JSON instead of a path
 * Out     what a real worker answers, with the tokens of fake-rank.ts
 *
 * SIGUSR2 lets a worker go on that waits at `pauseAtStep`.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { Pair } from 'zeromq';
import { decodeToWorker, encodeFromWorker, type FromWorker } from '../../proto/control.js';
import { CONTROL_VERSION } from '../../proto/limits.js';
import { controlAddress, type WorkerLaunch } from '../../proto/worker-launch.js';
import { FakeRank } from './fake-rank.js';

const FAILURE_GRACE_MS = 10_000;

export interface FakeWorkerPlan {
  /** Only this rank misbehaves; absent: every rank. */
  rank?: number;
  /** At this step: how it ends, or that it never answers. */
  atStep?: {
    step: number;
    what: 'exit' | 'kill' | 'failure' | 'hang' | 'garbage' | 'wrong-rank' | 'wrong-step';
  };
  /** Waits for SIGUSR2 before this step, as if in a collective; not the rank that misbehaves there. */
  pauseAtStep?: number;
  onLoad?: 'exit' | 'failure' | 'hang';
  /** It fails while it loads as long as this file is there. */
  failsWhile?: string;
  /** The version of the control messages; absent: the right one. */
  version?: number;
  /** Answers no inspection. */
  deaf?: boolean;
  /** Neither Shutdown nor SIGTERM ends it. */
  stubborn?: boolean;
}

async function main(launch: WorkerLaunch): Promise<void> {
  const { rank } = launch;
  const plan = JSON.parse(launch.shardFolder) as FakeWorkerPlan;
  const misbehaves = plan.rank === undefined || plan.rank === rank;
  const control = new Pair({ linger: 1000 });
  control.connect(controlAddress(launch.socketFolder, rank));
  const send = (message: FromWorker): Promise<void> => control.send(encodeFromWorker(message));
  const fail = async (code: string, message: string): Promise<never> => {
    await send({ rank, body: 'failure', failure: { code, message } });
    // A frame that was sent can be lost when the process exits at once (3 of 40 times, whatever the linger). The
    // coordinator kills a rank that has failed; should it be gone, this ends by itself.
    return new Promise(() => setTimeout(() => process.exit(1), FAILURE_GRACE_MS));
  };
  let goOn: () => void = () => {};
  const released = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  process.on('SIGUSR2', () => goOn());
  if (plan.stubborn) process.on('SIGTERM', () => {});

  process.stdout.write(`rank ${rank} of ${launch.worldSize} with ${launch.threads} threads\n`);
  await send({ rank, body: 'loading', loading: { doneBytes: 50, totalBytes: 100 } });
  if (plan.failsWhile !== undefined && existsSync(plan.failsWhile)) await fail('WORKER_FAILED', 'read error');
  if (misbehaves) {
    if (plan.onLoad === 'exit') process.exit(3);
    if (plan.onLoad === 'failure') await fail('SHARDS_INVALID', 'rank-0.weights differs from its manifest');
    if (plan.onLoad === 'hang') await new Promise(() => setInterval(() => {}, 1000));
  }
  await send({
    rank,
    body: 'ready',
    ready: {
      pid: process.pid,
      loadMs: 1,
      warmUpMs: 2,
      version: (misbehaves ? plan.version : null) ?? CONTROL_VERSION,
    },
  });

  const { maxSlots, maxStepTokens, slotTokens, warmSlots = 0 } = launch;
  const fake = new FakeRank({ maxSlots: maxSlots + warmSlots, slotTokens, maxStepTokens });
  let steps = 0;
  for await (const [frame] of control) {
    assert(frame);
    const message = decodeToWorker(frame);
    if (message.body === 'shutdown') {
      if (!plan.stubborn) break;
    } else if (message.body === 'inspect') {
      const zeros = { allReduces: 0, gathers: 0, collectiveBytesSent: 0, weightBytes: 0, kvReservedBytes: 0 };
      const times = {
        kvTouchedBytes: 0,
        computeUs: 0,
        collectiveUs: 0,
        chooseUs: 0,
        collectiveSkewUs: 0,
      };
      const { id } = message.inspect;
      const inspection = { id, pid: process.pid, steps, openSlots: fake.openSlots, ...zeros, ...times };
      if (!(misbehaves && plan.deaf)) await send({ rank, body: 'inspection', inspection });
    } else if (message.body === 'step') {
      const { step } = message.step;
      const what = misbehaves && plan.atStep?.step === step ? plan.atStep.what : null;
      if (plan.pauseAtStep === step && what === null) {
        process.stdout.write(`paused at step ${step}\n`);
        const keepAlive = setInterval(() => {}, 1000);
        await released;
        clearInterval(keepAlive);
      }
      if (what === 'exit') process.exit(7);
      if (what === 'kill') process.kill(process.pid, 'SIGKILL');
      if (what === 'failure') await fail('OUT_OF_MEMORY', 'no memory for the KV cache');
      if (what === 'hang') await new Promise(() => setInterval(() => {}, 1000));
      if (what === 'garbage') await control.send(Buffer.from([0xff, 0xff, 0xff]));
      const result = fake.run(message.step);
      steps++;
      if (what === 'wrong-step') result.step += 1;
      const sender = what === 'wrong-rank' ? rank + 1 : rank;
      if (rank === 0) await send({ rank: sender, body: 'result', result });
    }
  }
  control.close();
  process.exit(0);
}

const launch = JSON.parse(process.argv[2] ?? 'null') as WorkerLaunch | null;
assert(launch, 'started by a coordinator');
await main(launch);
