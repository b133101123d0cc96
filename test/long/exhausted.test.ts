/** A server that runs out of disk or descriptors, or follows one that was killed: it says so, serves on, and leaves nothing half made. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
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
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { FaultyServer } from '../faults/faulty-server.js';
import { allGone, ServerProcess } from '../support/server-process.js';

let scratch: string;
let model: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'exhausted-'));
  model = path.join(scratch, 'second');
  cpSync('models/embedded', model, { recursive: true });
  writeFileSync(path.join(model, 'serving.properties'), 'option.tensor_parallel_degree=2\n');
  execFileSync('tar', ['-czf', path.join(scratch, 'packed.tar.gz'), '-C', scratch, 'second']);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** Several servers start, one after the other. */
const LIMIT_MS = 240_000;
const ONE_RANK = {
  TENSOR_PARALLEL_DEGREE: '1',
  OPTION_THREADS_PER_RANK: '1',
  SERVING_REGISTRATION_FOLDERS: '*',
};

async function textOf(server: ServerProcess, name = 'embedded'): Promise<string> {
  const parameters = { max_new_tokens: 8, do_sample: false };
  const response = await server.post(`/predictions/${name}`, { inputs: 'Once upon a time', parameters });
  return ((await response.json()) as { generated_text: string }).generated_text;
}

const register = (server: ServerProcess, url: string, name: string): Promise<Response> =>
  fetch(`${server.url}/models?url=${encodeURIComponent(url)}&model_name=${name}`, { method: 'POST' });

it(
  'a disk that is full while a model is split or unpacked: told in words, nothing half made is left, and it works once there is room',
  async ({ skip }) => {
    const faulty = await FaultyServer.start(
      (disk) => ({
        ...ONE_RANK,
        SERVING_SHARD_STORE: `${disk}/shards`,
        SERVING_DOWNLOAD_DIR: `${disk}/downloads`,
      }),
      128,
    );
    stops.push(() => faulty.stop());
    const why = faulty.missing('full-disk');
    if (why !== null) skip(why);
    const { disk, server } = faulty;
    const text = await textOf(server);
    const whole = (folder: string): string[] => faulty.list(folder).filter((name) => !name.startsWith('.'));
    const shards = whole(`${disk}/shards`);
    faulty.fill('full-disk');
    const split = await register(server, model, 'split');
    expect(await split.text()).toMatch(/no space left for the shards in/);
    expect(split.ok).toBe(false);
    const unpacked = await register(server, path.join(scratch, 'packed.tar.gz'), 'packed');
    expect(await unpacked.text()).toMatch(/no room on the disk for/);
    expect(unpacked.ok).toBe(false);
    expect(await textOf(server)).toBe(text);
    expect(faulty.list(`${disk}/shards`).filter((name) => !name.startsWith('.'))).toEqual(shards);
    expect(existsSync(`${disk}/downloads`) ? whole(`${disk}/downloads`) : []).toEqual([]);
    faulty.empty('full-disk');
    for (const [url, name] of [
      [model, 'split'],
      [path.join(scratch, 'packed.tar.gz'), 'packed'],
    ] as const) {
      expect((await register(server, url, name)).status).toBe(200);
      expect(await textOf(server, name)).toBe(text);
    }
  },
  LIMIT_MS,
);

it(
  'without a descriptor to spare it refuses a model in words and serves on; a rank that dies then comes back with them',
  async () => {
    const server = await ServerProcess.start({ ...ONE_RANK, SERVING_RETRY_THRESHOLD: '100' });
    stops.push(() => server.stop());
    const text = await textOf(server);
    const [rank] = server.workerPids;
    const [, most] = /^Max open files +\d+ +(\d+)/m.exec(readFileSync(`/proc/${server.pid}/limits`, 'utf8'))!;
    const limit = (count: number | string): void => {
      execFileSync('prlimit', ['--pid', String(server.pid), `--nofile=${count}:`]);
    };
    // A number or two are free below it: for a connection, not for the pipes of a process.
    const open = new Set(readdirSync(`/proc/${server.pid}/fd`).map(Number));
    let below = 0;
    for (let free = 0; free < 2; below++) if (!open.has(below)) free++;
    limit(below);
    const refused = await register(server, 'models/embedded', 'second');
    expect(refused.ok).toBe(false);
    expect(await refused.text()).toMatch(/could not be started|EMFILE|too many open files/i);
    expect(await textOf(server)).toBe(text);
    const from = server.lines.length;
    process.kill(rank!, 'SIGKILL');
    await server.line(({ msg }) => msg === 'worker group died', from);
    await server.line(
      ({ groupId, msg, deaths }) => msg === 'worker group died' && groupId === 1 && Number(deaths) > 1,
      from,
    );
    limit(most!);
    await server.line(({ msg, running }) => msg === 'worker groups running' && running === 1, from);
    expect(await textOf(server)).toBe(text);
  },
  LIMIT_MS,
);

it(
  'what a killed server has left of sockets, folders and half-made shards is removed by the next; what lives stays',
  async () => {
    const temporary = path.join(scratch, 'temporary');
    const store = path.join(scratch, 'shards');
    for (const folder of [temporary, store]) mkdirSync(folder);
    const environment = { ...ONE_RANK, TMPDIR: temporary, SERVING_SHARD_STORE: store };
    const killed = new ServerProcess(environment);
    // In the middle of the split.
    while (!readdirSync(store).some((name) => name.startsWith('.partial-'))) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    killed.kill('SIGKILL');
    await killed.exited;
    const again = await ServerProcess.start(environment);
    const ranks = again.workerPids;
    const module = new URL('../../server/machine/scratch-folder.js', import.meta.url).href;
    const script = `import { makeScratchFolder } from '${module}'; process.stdout.write(await makeScratchFolder('${temporary}', 'handler-')); process.kill(process.pid, 'SIGKILL')`;
    const { stdout: orphan } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    again.kill('SIGKILL');
    await again.exited;
    await allGone(ranks);
    const left = readdirSync(temporary).filter((name) => name.startsWith('shardserve-'));
    expect(left.length).toBeGreaterThan(1);
    expect(left).toContain(path.basename(orphan));
    const living = path.join(temporary, `shardserve-00000000-${process.pid}-1-living`);
    mkdirSync(living);
    const last = await ServerProcess.start(environment);
    stops.push(() => last.stop());
    const now = readdirSync(temporary).filter((name) => name.startsWith('shardserve-'));
    expect(left.filter((name) => now.includes(name))).toEqual([]);
    expect(now).toContain(path.basename(living));
    expect(await textOf(last)).toMatch(/\w/);
    const shards = readdirSync(store).filter((name) => !name.startsWith('.'));
    expect(shards).toHaveLength(1);
  },
  LIMIT_MS,
);
