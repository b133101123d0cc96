/** server/bootstrap.mjs and server/shardserve.mjs: what runs before anything is installed or built. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../support/repository-root.js';

interface Bootstrap {
  unsupportedPlatform(facts?: {
    platform: string;
    arch: string;
    nodeVersion: string;
    glibc: string | undefined;
  }): string | null;
  staleInstall(root?: string, needDev?: boolean): string | null;
}

const commandLine = path.join(repositoryRoot, 'server', 'shardserve.mjs');
const bootstrap = (await import(
  pathToFileURL(path.join(repositoryRoot, 'server', 'bootstrap.mjs')).href
)) as Bootstrap;

describe('unsupportedPlatform', () => {
  const here = { platform: 'linux', arch: 'x64', nodeVersion: '20.1.0', glibc: '2.36' };

  it('accepts this machine, Linux arm64 and Node 20', () => {
    expect(bootstrap.unsupportedPlatform()).toBeNull();
    expect(bootstrap.unsupportedPlatform(here)).toBeNull();
    expect(bootstrap.unsupportedPlatform({ ...here, arch: 'arm64' })).toBeNull();
  });

  it.each([
    [{ platform: 'darwin', arch: 'arm64' }, 'Shardserve runs on Linux x64 and arm64; this is darwin arm64.'],
    [{ arch: 'riscv64' }, 'Shardserve runs on Linux x64 and arm64; this is linux riscv64.'],
    [{ glibc: undefined }, /no build for musl/],
    [{ nodeVersion: '18.20.4' }, 'Shardserve needs Node 20 or newer; this is Node 18.20.4.'],
  ])('refuses %j in one sentence', (facts, sentence) => {
    const refusal = bootstrap.unsupportedPlatform({ ...here, ...facts });
    if (typeof sentence === 'string') expect(refusal).toBe(sentence);
    else expect(refusal).toMatch(sentence);
  });
});

describe('staleInstall', () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'shardserve-install-'));
    mkdirSync(path.join(root, 'node_modules'));
  });

  afterEach(() => {
    rmSync(root, { recursive: true, force: true });
  });

  const write = (file: string, packages: Record<string, object>): void =>
    writeFileSync(path.join(root, file), JSON.stringify({ packages }));
  const wanted = {
    '': {},
    'node_modules/a': { version: '1.0.0' },
    'node_modules/b': { version: '2.0.0', dev: true },
    'node_modules/c': { version: '3.0.0', optional: true },
  };

  it('has nothing to install without a lock file, as in a package from a registry', () => {
    expect(bootstrap.staleInstall(root)).toBeNull();
  });

  it('asks for an install when there is no record of one', () => {
    write('package-lock.json', wanted);
    expect(bootstrap.staleInstall(root)).toBe('packages are not installed yet');
  });

  it('is content with an install made by hand, and with missing optional packages', () => {
    write('package-lock.json', wanted);
    write('node_modules/.package-lock.json', {
      'node_modules/a': wanted['node_modules/a'],
      'node_modules/b': wanted['node_modules/b'],
    });
    expect(bootstrap.staleInstall(root)).toBeNull();
  });

  it('misses a development package only where one is needed', () => {
    write('package-lock.json', wanted);
    write('node_modules/.package-lock.json', { 'node_modules/a': wanted['node_modules/a'] });
    expect(bootstrap.staleInstall(root, false)).toBeNull();
    expect(bootstrap.staleInstall(root, true)).toBe('b is missing');
  });

  it('sees another version', () => {
    write('package-lock.json', wanted);
    write('node_modules/.package-lock.json', { 'node_modules/a': { version: '0.9.0' } });
    expect(bootstrap.staleInstall(root, false)).toBe('a is 0.9.0, the lock file says 1.0.0');
  });
});

describe('the command line', () => {
  const run = (...argv: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [commandLine, ...argv], { encoding: 'utf8' });

  it('prints the version and help', () => {
    const { version } = JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(run('version')).toMatchObject({ status: 0, stdout: `${version}\n` });
    expect(run('help').stdout).toMatch(/^Usage: shardserve <command>/);
  });

  it('refuses an unknown command with code 2', () => {
    const { status, stderr } = run('strat');
    expect(status).toBe(2);
    expect(stderr).toMatch(/^Unknown command strat\./);
  });
});
