/** server/model-store after a crash: what a killed process leaves is taken over or cleared away. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cacheEntry,
  claimWork,
  discard,
  keepPartial,
  publish,
  sweep,
} from '../../../server/model-store/cache-folder.js';
import { runStoreTask } from '../../../server/model-store/run-store-task.js';
import { failureOf, openStore, type Store } from '../../support/model-store-fixture.js';
import { repositoryRoot } from '../../support/repository-root.js';

let store: Store;
let root: string;
beforeEach(() => {
  store = openStore();
  root = store.downloadFolder;
});
afterEach(() => store.remove());

const entry = () => cacheEntry(root, 'm', 'content one');
const names = () => readdirSync(root).sort();
const moduleUrl = (name: string) =>
  JSON.stringify(pathToFileURL(path.join(repositoryRoot, 'dist/server/model-store', name)).href);

/** Lets a process of its own claim work, write a file there, and die. */
function crashWithWork(isResumable: boolean): void {
  const program = `
    import { cacheEntry, claimWork } from ${moduleUrl('cache-folder.js')};
    import { writeFileSync } from 'node:fs';
    const root = ${JSON.stringify(root)};
    const work = await claimWork(root, cacheEntry(root, 'm', 'content one'), ${isResumable});
    writeFileSync(work + '/half', 'half');
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program]);
  expect(signal).toBe('SIGKILL');
}

describe('the download folder', () => {
  it('hands the work of a killed process to the next that wants the same', async () => {
    crashWithWork(true);
    const work = await claimWork(root, entry(), true);
    expect(readFileSync(path.join(work, 'half'), 'utf8')).toBe('half');
    expect(names()).toEqual([path.basename(work)]);
  });

  it('clears work of a killed process that nobody can continue', async () => {
    crashWithWork(false);
    expect(names()).toHaveLength(1);
    await sweep(root);
    expect(names()).toEqual([]);
  });

  it('leaves the work of a living process alone', async () => {
    const work = await claimWork(root, entry(), true);
    const other = await claimWork(root, entry(), true);
    await sweep(root);
    expect(names()).toEqual([work, other].map((folder) => path.basename(folder)).sort());
  });

  it('clears partials after a week, work of another machine after a day, and trash at once', async () => {
    await keepPartial(root, await claimWork(root, entry(), true), entry().key);
    const foreign = path.join(root, `.work-${entry().key}-00000000-1-1-x`);
    mkdirSync(foreign);
    mkdirSync(path.join(root, '.trash-x'));
    await sweep(root);
    expect(names()).toEqual([`.partial-${entry().key}`, path.basename(foreign)]);
    const age = (folder: string, days: number) => {
      const then = new Date(Date.now() - days * 86_400_000);
      utimesSync(path.join(root, folder), then, then);
    };
    age(`.partial-${entry().key}`, 8);
    await sweep(root);
    expect(names()).toEqual([path.basename(foreign)]);
    // Becomes a partial first, which is as old.
    age(path.basename(foreign), 2);
    await sweep(root);
    expect(names()).toEqual([`.partial-${entry().key}`]);
  });

  it('keeps the first of two that publish the same model', async () => {
    for (const text of ['first', 'second']) {
      const work = await claimWork(root, entry(), true);
      writeFileSync(path.join(work, 'config.json'), text);
      await publish(work, entry());
      await discard(root, work);
    }
    expect(names()).toEqual([path.basename(entry().final)]);
    expect(readFileSync(path.join(entry().final, 'config.json'), 'utf8')).toBe('first');
  });

  it('a folder that is gone already is no error to discard', async () => {
    mkdirSync(root, { recursive: true });
    mkdirSync(path.join(root, 'a'));
    renameSync(path.join(root, 'a'), path.join(root, 'b'));
    await expect(discard(root, path.join(root, 'a'))).resolves.toBeUndefined();
  });
});

describe('the archive process', () => {
  it('ends when its server does', async () => {
    const pipe = path.join(store.scratch, 'pipe.tar');
    spawnSync('mkfifo', [pipe]);
    const task = { task: 'unpack', archive: pipe, target: path.join(store.scratch, 't'), limits: {} };
    const program = path.join(repositoryRoot, 'dist/server/model-store/unpack-main.js');
    const child = spawn(process.execPath, [program, JSON.stringify(task)], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const ended = once(child, 'exit');
    child.stdin.end();
    expect(await ended).toEqual([null, 'SIGKILL']);
  });

  it('that dies without a word is an error that says so', async () => {
    const limits = { maxUnpackedBytes: 1, maxEntries: 1, maxCompressionRatio: 1 };
    const archive = path.join(store.scratch, 'no-such-file');
    const error = await failureOf(
      runStoreTask({ task: 'unpack', archive, target: path.join(root, 't'), limits }),
    );
    expect(error).toMatchObject({ code: 'INTERNAL' });
    expect(error.message).toMatch(/ENOENT/);
  });
});
