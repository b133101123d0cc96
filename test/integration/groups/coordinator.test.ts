/** The coordinator with real processes and sockets, and workers that misbehave as told. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { CONTROL_VERSION } from '../../../proto/limits.js';
import { Coordinator, type CoordinatorOptions } from '../../../server/coordinator/coordinator.js';
import { LocalLauncher } from '../../../server/machine/ranks/local-launcher.js';
import { workerEnvironment } from '../../../server/machine/ranks/worker-environment.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { fakeToken } from '../../support/fake-rank.js';
import type { FakeWorkerPlan } from '../../support/fake-worker.js';
import { allGone } from '../../support/server-process.js';

const FAKE_WORKER = fileURLToPath(new URL('../../support/fake-worker.js', import.meta.url));

// A folder of its own, so that no other test's sockets are counted.
process.env.TMPDIR = mkdtempSync(path.join(tmpdir(), 'coordinator-'));
afterAll(() => rmSync(tmpdir(), { recursive: true }));

const started: Coordinator[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((coordinator) => coordinator.stop()));
});

function makeOptions(plan: FakeWorkerPlan, fields: Partial<CoordinatorOptions> = {}) {
  const log = new LogRecorder();
  const options: CoordinatorOptions = {
    launch: {
      shardFolder: JSON.stringify(plan),
      worldSize: 2,
      threads: 1,
      maxSlots: 2,
      slotTokens: 64,
      maxStepTokens: 32,
      collectiveTimeoutMs: 1000,
      collective: 'zmq',
      verifyChecksums: false,
    },
    launcher: new LocalLauncher(FAKE_WORKER),
    loadingTimeoutMs: 20_000,
    stepTimeoutMs: 20_000,
    logger: log.logger,
    ...fields,
  };
  return { options, log };
}

async function start(plan: FakeWorkerPlan = {}, fields: Partial<CoordinatorOptions> = {}) {
  const { log, options } = makeOptions(plan, fields);
  const coordinator = await Coordinator.start(options);
  started.push(coordinator);
  return { coordinator, log };
}

const open = (slot: number, sequence: number, promptIds: number[]) => ({
  slot,
  sequence,
  promptIds,
  maxNewTokens: 10,
  endIds: [],
  sampling: GREEDY_SAMPLING,
});
const prefill = { closeSlots: [], opens: [open(0, 1, [5, 6])], rows: [{ slot: 0, sequence: 1, tokens: 2 }] };
const decode = { closeSlots: [], opens: [], rows: [{ slot: 0, sequence: 1, tokens: 1 }] };

const isAlive = (pid: number | undefined): boolean => {
  try {
    process.kill(pid ?? 0, 0);
    return true;
  } catch {
    return false;
  }
};
const socketFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith('shardserve-'));

describe('a coordinator', () => {
  it('starts all ranks, runs pipelined steps in order, and inspects every rank', async () => {
    const loading: number[] = [];
    const { coordinator, log } = await start({}, { onLoading: (done) => loading.push(done) });
    expect(coordinator.readiness).toMatchObject([{ loadMs: 1 }, { loadMs: 1 }]);
    // Not before every rank has told its size.
    expect(loading).toEqual([100]);
    const results = await Promise.all([coordinator.step(prefill), coordinator.step(decode)]);
    expect(results.map((result) => result.step)).toEqual([1, 2]);
    expect(results.map((result) => result.rows[0]?.tokens[0]?.tokenId)).toEqual(
      [0, 1].map((n) => fakeToken([5, 6], n)),
    );
    const inspections = await coordinator.inspect();
    expect(inspections.map(({ openSlots, pid, steps }) => ({ openSlots, pid, steps }))).toEqual(
      coordinator.pids.map((pid) => ({ openSlots: [0], pid, steps: 2 })),
    );
    await log.find((line) => line.rank === 1 && line.msg === 'rank 1 of 2 with 1 threads');
  });

  it('stops all ranks and removes its sockets', async () => {
    const before = socketFolders();
    const { coordinator } = await start();
    const folder = socketFolders().find((name) => !before.includes(name));
    expect(folder).toBeDefined();
    const { pids } = coordinator;
    await coordinator.stop();
    expect(pids.map(isAlive)).toEqual([false, false]);
    expect(existsSync(path.join(tmpdir(), folder!))).toBe(false);
    await expect(coordinator.step(decode)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });

  it('stops all the same when its sockets cannot be removed, and says so', async () => {
    const before = process.env.TMPDIR!;
    const gone = path.join(before, 'gone');
    mkdirSync(gone);
    process.env.TMPDIR = gone;
    const { coordinator, log } = await start().finally(() => {
      process.env.TMPDIR = before;
    });
    rmSync(gone, { recursive: true });
    // A path through a file is none that rm() takes for one that is not there.
    writeFileSync(gone, '');
    await coordinator.stop();
    rmSync(gone);
    expect(coordinator.pids.map(isAlive)).toEqual([false, false]);
    await log.find((line) => line.msg === 'the folder of a group that has ended is still there');
  });

  it('removes the sockets that a killed server has left, and no others', async () => {
    const module = new URL('../../../server/machine/ranks/socket-folder.js', import.meta.url).href;
    const script = `import { makeSocketFolder } from '${module}'; process.stdout.write(await makeSocketFolder()); process.kill(process.pid, 'SIGKILL')`;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(existsSync(stdout)).toBe(true);
    const foreign = path.join(tmpdir(), 'shardserve-00000000-1-1-abcdef');
    mkdirSync(foreign);
    const { coordinator: first } = await start();
    const { coordinator: second } = await start();
    expect([existsSync(stdout), existsSync(foreign)]).toEqual([false, true]);
    // The first one's are there still.
    expect((await first.step(prefill)).rows).toHaveLength(1);
    await Promise.all([first.stop(), second.stop()]);
    expect(socketFolders()).toEqual([path.basename(foreign)]);
    rmSync(foreign, { recursive: true });
  });

  it('lets steps that were sent end before it stops', async () => {
    const { coordinator } = await start();
    const step = coordinator.step(prefill);
    await coordinator.stop();
    expect((await step).rows).toHaveLength(1);
  });

  it('kills a worker that does not want to end', async () => {
    const { coordinator } = await start({ rank: 1, stubborn: true }, { stopGraceMs: 100 });
    const { pids } = coordinator;
    await coordinator.stop();
    expect(pids.map(isAlive)).toEqual([false, false]);
  });

  it('gives a worker no environment of the server but a short list', async () => {
    process.env.SHARDSERVE_TEST_SECRET = 'secret';
    const { coordinator } = await start();
    const { readFile } = await import('node:fs/promises');
    const environment = await readFile(`/proc/${coordinator.pids[0]}/environ`, 'utf8');
    delete process.env.SHARDSERVE_TEST_SECRET;
    expect(environment).toContain('PATH=');
    expect(environment).not.toContain('SHARDSERVE_TEST_SECRET');
  });

  it('lets a worker have weights that are no mapped files in huge pages, unless the user says how memory is laid out', () => {
    const { GLIBC_TUNABLES: ours } = workerEnvironment({}, false);
    expect(ours).toContain('glibc.malloc.hugetlb=1');
    expect(workerEnvironment({}, true)).toEqual({ GLIBC_TUNABLES: 'glibc.malloc.arena_max=1' });
    expect(workerEnvironment({ GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0' })).toEqual({
      GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0',
    });
    const [glibcLoader] = /\/\S*ld-linux\S*/.exec(readFileSync('/proc/self/maps', 'utf8')) ?? [];
    assert(glibcLoader, 'Node runs on glibc here');
    const env = { GLIBC_TUNABLES: ours };
    const tunables = execFileSync(glibcLoader, ['--list-tunables'], { env, encoding: 'utf8' });
    expect(tunables).toMatch(/glibc\.malloc\.hugetlb: 0x1 /);
    expect(tunables).toMatch(/glibc\.malloc\.mmap_threshold: 0x40000000 /);
    expect(tunables).toMatch(/glibc\.malloc\.top_pad: 0x1000000 /);
    expect(tunables).toMatch(/glibc\.malloc\.arena_max: 0x1 /);
  });
});

describe('a group that fails', () => {
  it.each([
    ['exits', 'exit', 1, 'WORKER_FAILED', /rank 1 exited with code 7/],
    ['is killed', 'kill', 1, 'WORKER_FAILED', /rank 1 was killed by SIGKILL/],
    ['reports a failure', 'failure', 1, 'OUT_OF_MEMORY', /rank 1: no memory/],
    ['sends what is no frame', 'garbage', 0, 'WORKER_FAILED', /rank 0 broke its control channel/],
    ['speaks for another', 'wrong-rank', 0, 'WORKER_FAILED', /rank 0 broke its control channel/],
    ['answers another step', 'wrong-step', 0, 'WORKER_FAILED', /rank 0 broke its control channel/],
  ] as const)('when a rank %s: both steps in flight, and all ranks', async (_, what, rank, code, message) => {
    // The other rank waits at the step, as it would in a collective.
    const { coordinator } = await start({ rank, atStep: { step: 2, what }, pauseAtStep: 2 });
    await coordinator.step(prefill);
    const settled = await Promise.allSettled([coordinator.step(decode), coordinator.step(decode)]);
    for (const step of settled) expect(step).toMatchObject({ status: 'rejected', reason: { code } });
    const error = await coordinator.failed;
    expect(error.message).toMatch(message);
    expect(error.fromOutside).toBe(what === 'kill');
    // Before anybody stops the group.
    await allGone(coordinator.pids.map((pid) => pid ?? 0));
    await coordinator.stop();
    await expect(coordinator.step(decode)).rejects.toBe(error);
    await expect(coordinator.inspect()).rejects.toBe(error);
  });

  it('when a step takes longer than its deadline', async () => {
    const { coordinator } = await start({ atStep: { step: 1, what: 'hang' } }, { stepTimeoutMs: 200 });
    await expect(coordinator.step(prefill)).rejects.toMatchObject({
      code: 'STEP_TIMEOUT',
      message: expect.stringContaining('step 1 took longer than 0.2 s'),
    });
    await coordinator.stop();
    expect(coordinator.pids.map(isAlive)).toEqual([false, false]);
  });

  it('when a rank is stopped while it is idle, in seconds: it is named', async () => {
    const { coordinator } = await start({}, { watchdog: { stoppedMs: 300 } });
    expect(coordinator.isResponsive).toBe(true);
    process.kill(coordinator.pids[1]!, 'SIGSTOP');
    const error = await coordinator.failed;
    expect(error).toMatchObject({ code: 'WORKER_FAILED' });
    expect(error.message).toMatch(/^rank 1 hangs: its process \d+ is stopped/);
    await allGone(coordinator.pids.map((pid) => pid ?? 0));
  });

  it('when a rank is stopped in a step, long before the deadline of the step', async () => {
    const { coordinator } = await start({ pauseAtStep: 1 }, { watchdog: { stoppedMs: 300 } });
    const step = coordinator.step(prefill);
    process.kill(coordinator.pids[1]!, 'SIGSTOP');
    await expect(step).rejects.toMatchObject({ message: expect.stringMatching(/^rank 1 hangs/) });
  });

  it('when an idle rank answers nothing any more: it is named, and told of before', async () => {
    const { coordinator } = await start({ rank: 1, deaf: true }, { watchdog: { deafMs: 600 } });
    let wasSuspicious = false;
    const looking = setInterval(() => {
      wasSuspicious ||= !coordinator.isResponsive;
    }, 20);
    expect((await coordinator.failed).message).toBe('rank 1 hangs: idle, and no answer for 0.6 s');
    clearInterval(looking);
    expect(wasSuspicious).toBe(true);
  });

  it('but not because the server was frozen for longer than the deadline of a step', async () => {
    const { coordinator, log } = await start({ pauseAtStep: 1 }, { stepTimeoutMs: 400 });
    const step = coordinator.step(prefill);
    await log.find(
      (line) => log.lines.filter(({ msg }) => msg.startsWith('paused')).length === 2 && line.msg !== '',
    );
    for (const pid of coordinator.pids) process.kill(pid!, 'SIGUSR2');
    // The ranks run meanwhile; nothing here does.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
    expect((await step).rows).toHaveLength(1);
    expect(coordinator.isResponsive).toBe(true);
  });

  it('when it is killed from outside, though it has nothing to do', async () => {
    const { coordinator } = await start();
    process.kill(coordinator.pids[0]!, 'SIGKILL');
    expect(await coordinator.failed).toMatchObject({ message: 'rank 0 was killed by SIGKILL' });
  });
});

describe('a group that does not come up', () => {
  it.each([
    ['exits', 'exit', 'WORKER_FAILED', /rank 1 exited with code 3/],
    ['reports a failure', 'failure', 'SHARDS_INVALID', /rank 1: rank-0.weights differs/],
  ] as const)('because a rank %s: nothing of it is left', async (_, onLoad, code, message) => {
    const before = socketFolders();
    const { options } = makeOptions({ rank: 1, onLoad });
    const error = await Coordinator.start(options).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(socketFolders().filter((name) => !before.includes(name))).toEqual([]);
  });

  it('because a rank speaks another version of the control messages', async () => {
    const { options } = makeOptions({ rank: 1, version: 1 });
    await expect(Coordinator.start(options)).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: `rank 1 speaks version 1 of the control messages, this server ${CONTROL_VERSION}`,
    });
  });

  it('because a rank is not ready in time: it is named', async () => {
    const { options } = makeOptions({ rank: 1, onLoad: 'hang' }, { loadingTimeoutMs: 2000 });
    await expect(Coordinator.start(options)).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: 'rank 1 not ready after 2 s (model_loading_timeout)',
    });
  });

  it('because it was stopped meanwhile', async () => {
    const { options } = makeOptions({ onLoad: 'hang' });
    const abort = new AbortController();
    const starting = Coordinator.start({ ...options, onLoading: () => abort.abort() }, abort.signal);
    await expect(starting).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});
