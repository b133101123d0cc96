/**
 * The kernels over random sizes, in memory of exactly the right size: with sanitisers and emulated tiles of AMX where a C++ compiler is, and for
 * arm64 by zig under qemu where both are (environment ZIG, as for shard-worker/kernels/build.mjs).
 *
 * Attention's files use what only clang has: attention-fuzz.test.ts.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testSeed } from '../fixtures/seeded-random.js';
import { ROOT } from '../tidy/repository.js';

const FOLDER = path.join(ROOT, 'shard-worker', 'kernels');
const DRIVER = path.join(ROOT, 'test', 'support', 'kernels-fuzz.cpp');
const COMMON = ['-std=c++17', '-fno-exceptions', '-fno-rtti', '-ffp-contract=off', '-w', `-I${FOLDER}`];
const zig = process.env.ZIG?.split(' ');

/** What the source for AMX needs besides tiles. */
const hasAvx512 = /\bavx512_vnni\b/.test(readFileSync('/proc/cpuinfo', 'latin1'));

const runs = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;

const { processorOf } = (await import(pathToFileURL(path.join(FOLDER, 'build.mjs')).href)) as {
  processorOf: (file: string, arch: string) => string | null;
};

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'kernels-fuzz-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** @returns path of the program */
function build(
  compiler: readonly string[],
  arch: string,
  flags: readonly string[],
  target: (processor: string) => string[],
): string {
  const files = readdirSync(FOLDER)
    .filter((file) => file.endsWith('.cpp') && !/^attention|_op\.cpp$/.test(file))
    .map((file) => ({ file: path.join(FOLDER, file), processor: processorOf(file, arch) }));
  const driver = { file: DRIVER, processor: processorOf('kernels-fuzz.cpp', arch) };
  const [command, ...first] = compiler as [string, ...string[]];
  const objects = [...files, driver].flatMap(({ file, processor }) => {
    if (processor === null) return [];
    const object = path.join(scratch, `${arch}-${path.basename(file)}.o`);
    const args = [...first, ...flags, ...COMMON, ...target(processor), '-c', file, '-o', object];
    execFileSync(command, args, { stdio: 'pipe' });
    return [object];
  });
  const program = path.join(scratch, `fuzz-${arch}`);
  execFileSync(command, [...first, ...flags, ...objects, '-o', program, '-lm'], { stdio: 'pipe' });
  return program;
}

describe(`random sizes (seed ${testSeed})`, () => {
  describe.runIf(process.arch === 'x64' && runs('c++', '--version'))('with sanitisers', () => {
    let program: string;
    beforeAll(() => {
      const sanitise = ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
      const features = (processor: string): string[] =>
        processor
          .split('+')
          .slice(1)
          .filter((name) => !name.startsWith('amx'))
          .map((name) => `-m${name}`);
      program = build(['c++'], 'x64', [...sanitise, '-DSS_EMULATE_TILES'], features);
    });

    it('touch no byte outside, compute nothing undefined, and have the same bits by every variant', () => {
      const args = [String(testSeed), '1000', ...(hasAvx512 ? ['amx-int8'] : [])];
      const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
      expect(stderr).toBe('');
      expect(status).toBe(0);
    });

    it.runIf(hasAvx512).each([
      ['right', 0, 'amx-int8 1\nuses amx-int8\n'],
      ['wrong by one in a row', 1, 'amx-int8 3\nuses avx512-vnni\n'],
      ['a trap', 2, 'amx-int8 4\nuses avx512-vnni\n'],
    ])('tiles prove themselves before they are used: %s', (_, fault, end) => {
      const { status, stderr, stdout } = spawnSync(program, ['states', String(fault)], {
        encoding: 'utf8',
        // A trap leaves the scratch memory of its product behind.
        env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' },
      });
      expect(stderr).toBe('');
      expect(stdout.endsWith(end), stdout).toBe(true);
      expect(status).toBe(0);
    });
  });

  it.runIf(zig && runs('qemu-aarch64-static', '--version'))('have the same bits by NEON under qemu', () => {
    const target = [
      '-target',
      'aarch64-linux-musl',
      '-O2',
      '-fno-sanitize=all',
      '-fno-threadsafe-statics',
      '-static',
    ];
    const program = build([...zig!, 'c++'], 'arm64', target, (processor) => [`-mcpu=${processor}`]);
    const args = ['-cpu', 'max', program, String(testSeed), '300', 'neon-i8mm'];
    const { status, stderr } = spawnSync('qemu-aarch64-static', args, { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });
});
