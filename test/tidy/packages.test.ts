/** What a fresh machine sees of packages: an install without warnings. */
import { describe, expect, it } from 'vitest';
import { readText } from './repository.js';

interface LockEntry {
  version: string;
  engines?: { node?: string };
  hasInstallScript?: boolean;
  optional?: boolean;
}
const manifest = JSON.parse(readText('package.json')) as {
  allowScripts: Record<string, boolean>;
  dependencies: Record<string, string>;
  overrides?: Record<string, string>;
};
const { packages } = JSON.parse(readText('package-lock.json')) as { packages: Record<string, LockEntry> };
const installed = Object.entries(packages).filter(([at, { optional }]) => at !== '' && optional !== true);

/** Enough for the ranges there are: alternatives of `>=`, `^`, `x.*` and bare majors. */
function acceptsNode20(range: string): boolean {
  return range.split('||').some((one) => {
    const [, sign, major] = /^\s*(>=|\^)?\s*(\d+)/.exec(one) ?? [];
    if (major === undefined) return one.trim() === '*';
    return sign === '>=' ? Number(major) <= 20 : Number(major) === 20;
  });
}

describe('an install', () => {
  it('warns of no engine: every package runs on the oldest Node that is promised', () => {
    const refusing = installed.filter(([, { engines }]) => engines?.node && !acceptsNode20(engines.node));
    expect(refusing.map(([at, { engines }]) => `${at}: ${engines?.node}`)).toEqual([]);
  });

  it('of a pack has the same versions: what is overridden here, which npm does for the root alone, is a dependency of its own', () => {
    // Its later ones take a cookie that asks for Node 22: a pack's install warned of that.
    expect(manifest.dependencies).toMatchObject(manifest.overrides ?? {});
    expect(manifest.dependencies['light-my-request']).toMatch(/^\d/);
  });

  it('warns of no install script: each is allowed or forbidden by name', () => {
    const names = installed
      .filter(([, { hasInstallScript }]) => hasInstallScript)
      .map(([at]) => at.replace(/^.*node_modules\//, ''));
    expect([...new Set(names)].sort()).toEqual(Object.keys(manifest.allowScripts).sort());
    // It would fetch 300 MB of CUDA libraries.
    expect(manifest.allowScripts['onnxruntime-node']).toBe(false);
  });
});
