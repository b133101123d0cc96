/**
 * Attention over random sizes, in memory that ends at a page nobody may touch, what is undefined trapping: by every set of instructions here, and by
 * NEON under qemu, where a compiler (environment ZIG, as for shard-worker/kernels/build.mjs) and qemu are. The bits are the same everywhere.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testSeed } from '../fixtures/seeded-random.js';
import { ROOT } from '../tidy/repository.js';

const FOLDER = path.join(ROOT, 'shard-worker', 'kernels');
const DRIVER = path.join(ROOT, 'test', 'support', 'attention-fuzz.cpp');
const ROUNDS = '100';
const zig = process.env.ZIG?.split(' ');
const COMMON = ['-std=c++17', '-fno-exceptions', '-fno-rtti', '-ffp-contract=off', '-fno-threadsafe-statics'];
const FLAGS = {
  x64: ['-target', 'x86_64-linux-musl', '-O1', '-fsanitize=undefined', '-fsanitize-trap=undefined'],
  arm64: ['-target', 'aarch64-linux-musl', '-O2', '-fno-sanitize=all'],
};

const { processorOf } = (await import(pathToFileURL(path.join(FOLDER, 'build.mjs')).href)) as {
  processorOf: (file: string, arch: string) => string | null;
};

describe.runIf(zig && process.arch === 'x64')(`random sizes (seed ${testSeed})`, () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(path.join(tmpdir(), 'attention-fuzz-'));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  /** @returns what a program built for `arch` says */
  function run(arch: 'x64' | 'arm64', ...by: string[]): string {
    const [compiler, ...first] = [...zig!, 'c++'] as unknown as [string, ...string[]];
    const flags = [...first, ...FLAGS[arch], ...COMMON, '-w', `-I${FOLDER}`];
    const files = readdirSync(FOLDER)
      .filter((file) => /^attention.*\.cpp$/.test(file))
      .map((file) => path.join(FOLDER, file));
    const objects = [...files, DRIVER].flatMap((file) => {
      const processor = processorOf(path.basename(file), arch);
      if (processor === null) return [];
      const object = path.join(scratch, `${arch}-${path.basename(file)}.o`);
      execFileSync(compiler, [...flags, `-mcpu=${processor}`, '-c', file, '-o', object], { stdio: 'pipe' });
      return [object];
    });
    const program = path.join(scratch, `fuzz-${arch}`);
    execFileSync(compiler, [...flags, ...objects, '-static', '-o', program, '-lm'], { stdio: 'pipe' });
    const [command, ...args] = [...by, program, String(testSeed), ROUNDS] as unknown as [string, ...string[]];
    const { signal, status, stderr, stdout } = spawnSync(command, args, { encoding: 'utf8' });
    expect({ signal, status, stderr }).toEqual({ signal: null, status: 0, stderr: '' });
    return stdout;
  }

  it('touch no byte outside, and have the same bits whole and in pieces, by every set of instructions and by NEON', () => {
    const here = run('x64');
    if (spawnSync('qemu-aarch64-static', ['--version']).status === 0)
      expect(run('arm64', 'qemu-aarch64-static', '-cpu', 'max')).toBe(here);
  });
});
