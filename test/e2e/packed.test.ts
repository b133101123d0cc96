/**
 * What `npm install shardserve.tgz` gives in an empty folder: `npx shardserve start` serves, and writes nothing into node_modules.
 *
 * The pack is unpacked as npm does it; the packages that it depends on, and no others, are links to those of this checkout, since tests
 * fetch nothing.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';

let scratch: string;
let app: string;
let child: ChildProcess | undefined;
const environment = () => {
  const { PATH } = process.env;
  const settings = {
    SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
    SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:0',
  };
  return { PATH, HOME: scratch, npm_config_update_notifier: 'false', ...settings };
};

beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-packed-'));
  app = path.join(scratch, 'app');
  const home = path.join(app, 'node_modules', 'shardserve');
  mkdirSync(home, { recursive: true });
  execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', scratch], {
    ...{ cwd: repositoryRoot, stdio: 'ignore' },
  });
  const pack = readdirSync(scratch).find((name) => name.endsWith('.tgz'))!;
  execFileSync('tar', ['-xzf', path.join(scratch, pack), '--strip-components=1', '-C', home]);
  const manifest = JSON.parse(readFileSync(path.join(home, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
    bin: Record<string, string>;
  };
  for (const name of Object.keys(manifest.dependencies)) {
    const link = path.join(app, 'node_modules', name);
    mkdirSync(path.dirname(link), { recursive: true });
    symlinkSync(path.join(repositoryRoot, 'node_modules', name), link);
  }
  mkdirSync(path.join(app, 'node_modules', '.bin'));
  symlinkSync(
    `../shardserve/${manifest.bin.shardserve}`,
    path.join(app, 'node_modules', '.bin', 'shardserve'),
  );
});
afterAll(() => {
  if (child?.pid && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  rmSync(scratch, { recursive: true });
});

describe('a packed installation', () => {
  it('has every file that the README links, and nothing of the tests', () => {
    const home = path.join(app, 'node_modules', 'shardserve');
    const links = [...readFileSync(path.join(home, 'README.md'), 'utf8').matchAll(/\]\(([^)#:]+)\)/g)];
    expect(links.length).toBeGreaterThan(5);
    expect(links.map(([, to]) => to!).filter((to) => !existsSync(path.join(home, to)))).toEqual([]);
    expect(readdirSync(path.join(home, 'dist'))).not.toContain('test');
  });

  it('fetches no CUDA libraries when it is installed', () => {
    const home = path.join(app, 'node_modules', 'shardserve');
    const { scripts } = JSON.parse(readFileSync(path.join(home, 'package.json'), 'utf8'));
    // A copy of the package of ONNX Runtime beside it, whose script finds no server to fetch from, and with it must not ask for one.
    const elsewhere = path.join(scratch, 'installing', 'node_modules');
    const runtime = path.join(elsewhere, 'onnxruntime-node');
    mkdirSync(elsewhere, { recursive: true });
    cpSync(path.join(home, 'server'), path.join(elsewhere, 'shardserve', 'server'), { recursive: true });
    const original = path.join(repositoryRoot, 'node_modules', 'onnxruntime-node');
    for (const part of ['package.json', 'script'])
      cpSync(path.join(original, part), path.join(runtime, part), { recursive: true });
    symlinkSync(
      path.join(repositoryRoot, 'node_modules', 'global-agent'),
      path.join(elsewhere, 'global-agent'),
    );
    symlinkSync(path.join(repositoryRoot, 'node_modules', 'adm-zip'), path.join(elsewhere, 'adm-zip'));
    // Both find every address taken by a proxy that is not there: whoever asks for a file fails.
    const proxy = 'http://127.0.0.1:9';
    const env = { ...environment(), GLOBAL_AGENT_HTTPS_PROXY: proxy, GLOBAL_AGENT_HTTP_PROXY: proxy };
    const run = (script: string, cwd: string) =>
      spawnSync('sh', ['-c', script], { cwd, encoding: 'utf8', env });
    const postinstall = JSON.parse(readFileSync(path.join(runtime, 'package.json'), 'utf8')).scripts
      .postinstall;
    if (process.arch === 'x64') expect(run(postinstall, runtime).status).not.toBe(0);
    expect(run(scripts.preinstall, path.join(elsewhere, 'shardserve'))).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(run(postinstall, runtime)).toMatchObject({ status: 0, stderr: '' });
    // What somebody asks for in so many words is done.
    const asked = spawnSync('sh', ['-c', postinstall], {
      ...{ cwd: runtime, encoding: 'utf8', env: { ...env, ONNXRUNTIME_NODE_INSTALL: 'cuda12' } },
    });
    if (process.arch === 'x64') expect(asked.status).not.toBe(0);
  });

  it('tells its version and its commands', () => {
    const run = (...argv: string[]) =>
      execFileSync('npx', ['--no-install', 'shardserve', ...argv], {
        cwd: app,
        encoding: 'utf8',
        env: environment(),
      });
    expect(run('version')).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(run('start', '--help')).toMatch(/npx shardserve start/);
  });

  it('starts in an empty folder, answers, and keeps its shards in the cache of the user', async () => {
    // A group of its own: npx has a shell between.
    child = spawn('npx', ['--no-install', 'shardserve', 'start'], {
      ...{ cwd: app, env: environment(), detached: true, stdio: ['ignore', 'pipe', 'inherit'] },
    });
    const ended = new Promise<void>((resolve) => child!.once('close', () => resolve()));
    let url = '';
    for await (const line of createInterface({ input: child.stdout! })) {
      url = /^curl -N (http:\/\/\S+?)\/predictions/.exec(line)?.[1] ?? '';
      if (url !== '') break;
    }
    const answer = await fetch(`${url}/predictions/embedded`, {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ inputs: 'Once upon a time', parameters: { max_new_tokens: 4 } }),
    });
    expect(await answer.json()).toEqual({ generated_text: expect.stringMatching(/\w/) });
    expect(readdirSync(path.join(scratch, '.cache', 'shardserve', 'shards')).length).toBeGreaterThan(0);
    expect(existsSync(path.join(app, 'node_modules', 'shardserve', '.shards'))).toBe(false);
    process.kill(-child.pid!, 'SIGTERM');
    await ended;
  });
});
