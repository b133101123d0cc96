/**
 * The cache of fetched models lasts: over releases, restarts, servers that share it, lost connections and kill -9; offline nothing is
 * connected to.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cachedModels,
  makeRoom,
  pruneCache,
  removeModel,
} from '../../../server/model-store/cache-contents.js';
import { releaseModel } from '../../../server/model-store/fetch-model.js';
import { gitBlobId, sha256, tarBytes } from '../../support/model-store-bytes.js';
import {
  failureOf,
  type LoopbackServer,
  openStore,
  type Store,
  serveBytes,
  startServer,
} from '../../support/model-store-fixture.js';
import { repositoryRoot } from '../../support/repository-root.js';

const COMMITS = { main: 'c0ffee'.padEnd(40, '0'), next: 'decade'.padEnd(40, '0') };
const WEIGHTS = Buffer.alloc(300_000, 'weights ');
const FILES: Record<string, Buffer> = { 'config.json': Buffer.from('{}'), 'model.safetensors': WEIGHTS };
const ARCHIVE = tarBytes([{ name: 'config.json', content: '{}' }]);

let server: LoopbackServer;
let store: Store;
let commit: string;
let etag: string;
/** Called before an answer; true: it has answered. */
let respond: ((request: IncomingMessage, response: ServerResponse) => boolean) | null;

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (respond?.(request, response)) return;
  const { pathname } = new URL(request.url ?? '/', server.origin);
  const sendJson = (body: unknown): void =>
    void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (pathname === '/m.tar') {
    if (request.headers['if-none-match'] === etag) response.writeHead(304, { etag }).end();
    else serveBytes(request, response, ARCHIVE, etag);
  } else if (pathname.startsWith('/api/models/org/name/revision/')) {
    sendJson({ _id: '1', id: 'org/name', sha: commit, gated: false });
  } else if (pathname.startsWith('/api/models/org/name/tree/')) {
    sendJson(
      Object.entries(FILES).map(([name, content]) => ({
        ...{ type: 'file', path: name, size: content.length, oid: gitBlobId(content) },
        ...(name.endsWith('.safetensors') && {
          lfs: { oid: sha256(content), size: content.length, pointerSize: 130 },
        }),
      })),
    );
  } else {
    const content = FILES[pathname.split('/').at(-1)!]!;
    serveBytes(request, response, content, `"${gitBlobId(content)}"`);
  }
}

beforeEach(async () => {
  respond = null;
  commit = COMMITS.main;
  etag = '"one"';
  server = await startServer(answer);
  store = openStore({ hubEndpoint: server.origin, allowedHosts: [server.host] });
});
afterEach(async () => {
  await server.close();
  store.remove();
});

const HUB = 'hf://org/name';
const http = () => `${server.origin}/m.tar`;
const downloads = () => server.requests.filter(({ url }) => url?.includes('/resolve/')).length;
const offline = (url: string) => store.fetch(url, { policy: { ...store.policy, offline: true } });
const root = () => store.downloadFolder;

/** Fetches and gives back, as a server does that is then stopped. */
async function fetchAndLeave(url: string): Promise<string> {
  const model = await store.fetch(url);
  await releaseModel(model);
  return model.folder;
}

describe('a fetched model', () => {
  it.each(['hub', 'http'])('of %s outlives its release; the next start downloads nothing', async (kind) => {
    const url = kind === 'hub' ? HUB : http();
    const folder = await fetchAndLeave(url);
    expect(existsSync(path.join(folder, 'config.json'))).toBe(true);
    const before = server.requests.length;
    expect(await fetchAndLeave(url)).toBe(folder);
    if (kind === 'hub') expect(downloads()).toBe(Object.keys(FILES).length * 2);
    // One question with the ETag, answered without a body.
    else expect(server.requests.slice(before).map(({ headers }) => headers['if-none-match'])).toEqual([etag]);
  });

  it.each(['hub', 'http'])('of %s is fetched anew when its source has another', async (kind) => {
    const url = kind === 'hub' ? HUB : http();
    const first = await fetchAndLeave(url);
    commit = COMMITS.next;
    etag = '"two"';
    const second = await fetchAndLeave(url);
    expect(second).not.toBe(first);
    expect(existsSync(second)).toBe(true);
  });

  it('at a commit needs no connection at all once it is there', async () => {
    const url = `${HUB}@${COMMITS.main}`;
    await fetchAndLeave(url);
    server.requests.length = 0;
    await fetchAndLeave(url);
    expect(server.requests).toHaveLength(0);
  });

  it.each(['hub', 'http'])(
    'of %s is taken from the cache where the source is not reached, and it is said',
    async (kind) => {
      const url = kind === 'hub' ? HUB : http();
      const folder = await fetchAndLeave(url);
      respond = (request) => {
        request.socket.destroy();
        return true;
      };
      const warnings: string[] = [];
      const model = await store.fetch(url, { onWarning: (sentence) => warnings.push(sentence) });
      expect(model.folder).toBe(folder);
      expect(warnings).toEqual([expect.stringMatching(/cannot be reached.*the copy in the cache is used/)]);
    },
  );
});

describe('offline', () => {
  it.each(['hub', 'http'])('a model of %s that is there is served without one connection', async (kind) => {
    const url = kind === 'hub' ? HUB : http();
    const folder = await fetchAndLeave(url);
    server.requests.length = 0;
    expect((await offline(url)).folder).toBe(folder);
    expect(server.requests).toHaveLength(0);
  });

  it('one that is not there is named, with what to do, and nothing is connected to', async () => {
    await fetchAndLeave(HUB);
    server.requests.length = 0;
    for (const url of [http(), `${HUB}@v2`, 's3://bucket/model/']) {
      const error = await failureOf(offline(url));
      expect(error.code).toBe('MODEL_NOT_FOUND');
      expect(error.message).toMatch(/is not in the cache .*offline.*start once with a connection/);
    }
    expect(server.requests).toHaveLength(0);
  });
});

/** Fetches in a process of its own; tells `ready` when it has the model, and keeps it until it is killed. */
function otherServer(url: string) {
  const module = pathToFileURL(path.join(repositoryRoot, 'dist/server/model-store/fetch-model.js')).href;
  const program = `
    import { fetchModel } from ${JSON.stringify(module)};
    const model = await fetchModel(${JSON.stringify({ url, downloadFolder: root(), policy: store.policy })});
    console.log(model.folder);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout });
  return { folder: once(lines, 'line').then(([line]) => String(line)), ended: once(child, 'exit'), child };
}

describe('servers that share a cache', () => {
  it('download one model once', async () => {
    const others = [otherServer(HUB), otherServer(HUB), otherServer(HUB)];
    const folders = await Promise.all(others.map(({ folder }) => folder));
    expect(new Set(folders).size).toBe(1);
    const weights = server.requests.filter(
      ({ url, headers }) => url?.endsWith('.safetensors') && !headers.range?.includes('0-0'),
    );
    expect(weights.length).toBe(new Set(weights.map(({ url, headers }) => `${url} ${headers.range}`)).size);
    for (const { child, ended } of others) {
      child.kill('SIGKILL');
      await ended;
    }
  });

  it('one that is killed in the midst of a download leaves nothing that is taken for whole; the next goes on', async () => {
    let held: ServerResponse | null = null;
    const begun = new Promise<void>((resolve) => {
      respond = (request, response) => {
        if (!request.url?.includes('/resolve/') || !request.url.endsWith('.safetensors') || held)
          return false;
        if (request.headers.range?.startsWith('bytes=0-0')) return false;
        held = response;
        response.writeHead(200, { etag: '"w"', 'content-length': WEIGHTS.length });
        response.write(WEIGHTS.subarray(0, 100_000), () => resolve());
        return true;
      };
    });
    const other = otherServer(HUB);
    await begun;
    other.child.kill('SIGKILL');
    await other.ended;
    const models = readdirSync(root()).filter((name) => !name.startsWith('.'));
    expect(models).toEqual([]);
    const { folder } = await store.fetch(HUB);
    expect(readdirSync(folder).sort()).toEqual(Object.keys(FILES).sort());
    expect(readdirSync(root()).filter((name) => /^\.(?:work|lock|partial)-/.test(name))).toEqual([]);
  });
});

describe('room in the cache', () => {
  const age = (folder: string, days: number): void => {
    const then = new Date(Date.now() - days * 86_400_000);
    utimesSync(folder, then, then);
  };

  it('is made of the least recently used, never of one in use, here or in another server', async () => {
    const old = await fetchAndLeave(`${HUB}@${COMMITS.main}`);
    commit = COMMITS.next;
    const other = otherServer(HUB);
    const open = await other.folder;
    const mine = await store.fetch(http());
    for (const folder of [old, open, mine.folder]) age(folder, 3);
    expect((await makeRoom(root(), 0)).map(({ name }) => name)).toEqual([path.basename(old)]);
    expect([old, open, mine.folder].map((folder) => existsSync(folder))).toEqual([false, true, true]);
    expect(await removeModel(root(), path.basename(open))).toBe(false);
    other.child.kill('SIGKILL');
    await other.ended;
    expect(await removeModel(root(), path.basename(open))).toBe(true);
    await releaseModel(mine);
  });

  it('counts from when a model was let go, not from when it was asked for', async () => {
    const long = await store.fetch(`${HUB}@${COMMITS.main}`);
    const short = await fetchAndLeave(http());
    age(long.folder, 3);
    age(short, 1);
    await releaseModel(long);
    expect((await cachedModels(root())).map(({ name }) => name)).toEqual(
      [short, long.folder].map((folder) => path.basename(folder)),
    );
  });

  it('is kept to a limit as models come', async () => {
    const first = await fetchAndLeave(`${HUB}@${COMMITS.main}`);
    age(first, 1);
    commit = COMMITS.next;
    const warnings: string[] = [];
    const policy = { ...store.policy, maxCacheBytes: 400_000 };
    const second = await store.fetch(HUB, { policy, onWarning: (sentence) => warnings.push(sentence) });
    expect([existsSync(first), existsSync(second.folder)]).toEqual([false, true]);
    expect(warnings).toEqual([
      expect.stringMatching(/was deleted from the cache to keep to download_cache_mb/),
    ]);
    await releaseModel(second);
  });

  it('a model of a name from outside is not removed', async () => {
    await fetchAndLeave(HUB);
    writeFileSync(path.join(store.scratch, 'x'), '');
    for (const name of ['../x', '.', '..', '.ref-x', 'none'])
      expect(await removeModel(root(), name)).toBe(false);
    expect(existsSync(path.join(store.scratch, 'x'))).toBe(true);
  });
});

describe('shardserve cache', () => {
  const run = (...argv: string[]) =>
    spawnSync(process.execPath, [path.join(repositoryRoot, 'server/shardserve.mjs'), 'cache', ...argv], {
      ...{ cwd: store.scratch, encoding: 'utf8' },
      env: { ...process.env, SERVING_DOWNLOAD_DIR: root() },
    });

  it('lists, removes and prunes', async () => {
    const name = path.basename(await fetchAndLeave(HUB));
    const archived = path.basename(await fetchAndLeave(http()));
    const listed = run('list').stdout;
    expect(listed).toContain(`${name}  1 MiB`);
    expect(listed).toMatch(/unused {2}hf:\/\/org\/name@main\n/);
    expect(listed).toMatch(/^2 models, \d+ MiB of 204800 MiB in /m);
    expect(run('remove', name)).toMatchObject({ status: 0, stdout: `removed ${name}\n` });
    expect(run('remove', name)).toMatchObject({ status: 1, stdout: expect.stringContaining('is not there') });
    expect(run('prune', '--days', '1').stdout).toBe('');
    expect(run('prune').stdout).toMatch(new RegExp(`^removed ${archived} `));
    expect(await cachedModels(root())).toEqual([]);
    expect(run('what').status).toBe(2);
  });

  it('prune also clears what was interrupted', async () => {
    await fetchAndLeave(HUB);
    rmSync(path.join(root(), '.partial-x'), { force: true });
    writeFileSync(path.join(root(), '.partial-x'), '');
    await pruneCache(root(), 0);
    expect(readdirSync(root()).filter((name) => name.startsWith('.partial-'))).toEqual([]);
    expect(await cachedModels(root())).toHaveLength(1);
  });
});
