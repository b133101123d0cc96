/**
 * Builds the library for linux x64 and arm64 by one pinned compiler that cross-compiles: PyPI's `ziglang`.
 *
 *   python3 -m venv /tmp/zig && /tmp/zig/bin/pip install ziglang==0.17.1
 *   ZIG="/tmp/zig/bin/python -m ziglang" node shard-worker/kernels/build.mjs
 *
 * In      every *.cpp of this folder; the end of a file's name says which instructions it may use
 * Out     prebuilt/linux-<arch>/libshardserve-kernels.so and prebuilt/sources.sha256
 * Limits  plain JavaScript on Node alone; glibc ≥ 2.28, no C++ runtime
 * Errors  a failed compiler ends the script with its code
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = path.dirname(fileURLToPath(import.meta.url));
const ZIG_VERSION = '0.17.1';

const FLAGS = [
  ...[
    '-O3',
    '-std=c++17',
    '-fPIC',
    '-fno-exceptions',
    '-fno-rtti',
    '-fvisibility=hidden',
    '-fno-sanitize=all',
  ],
  // The same bits on every machine: no product and sum become one operation unless the source says so.
  ...[
    '-ffp-contract=off',
    '-fno-math-errno',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-fno-stack-protector',
    '-fno-threadsafe-statics',
  ],
];
const AVX512 = '+avx2+fma+f16c+avx512f+avx512bw+avx512vl+avx512dq+avx512vnni';

/** Architecture → compiler's target, and of files that end in `_<name>.cpp` the processor; the others compile for any. */
const TARGETS = {
  x64: {
    target: 'x86_64-linux-gnu.2.28',
    base: 'x86_64',
    variants: {
      avx2: '+avx2+fma+f16c',
      avxvnni: '+avx2+fma+f16c+avxvnni',
      avx512: AVX512,
      amx: `${AVX512}+amx_tile+amx_int8`,
    },
  },
  arm64: {
    target: 'aarch64-linux-gnu.2.28',
    base: 'generic',
    variants: { dotprod: '+dotprod+fullfp16', i8mm: '+dotprod+fullfp16+i8mm' },
  },
};

/** Files whose change asks for a build, sorted. */
export function sources() {
  return readdirSync(FOLDER)
    .filter((file) => /\.(cpp|h)$/.test(file) || file === 'build.mjs')
    .sort();
}

/** What prebuilt/sources.sha256 must hold. */
export function sourceHash() {
  const hash = createHash('sha256');
  for (const file of sources())
    hash
      .update(`${file}\0`)
      .update(readFileSync(path.join(FOLDER, file)))
      .update('\0');
  return hash.digest('hex');
}

/** The processor that a file is compiled for; null: it is for another architecture. */
export function processorOf(file, arch) {
  const suffix = /_([a-z0-9]+)\.cpp$/.exec(file)?.[1] ?? '';
  const { base, variants } = TARGETS[arch];
  if (suffix in variants) return base + variants[suffix];
  const elsewhere = Object.values(TARGETS).some((target) => suffix in target.variants);
  return elsewhere ? null : base;
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], [...command.slice(1), ...args], { stdio: ['ignore', 2, 2] });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`compiler ended with ${code}`))));
  });
}

/** Compiles and links; `extra` flags go to both. */
export async function buildLibrary(zig, arch, output, extra = []) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-kernels-'));
  const { target } = TARGETS[arch];
  try {
    const objects = [];
    for (const file of sources().filter((name) => name.endsWith('.cpp'))) {
      const processor = processorOf(file, arch);
      if (processor === null) continue;
      const object = path.join(scratch, file.replace('.cpp', '.o'));
      const from = ['-target', target, `-mcpu=${processor}`, ...FLAGS, `-ffile-prefix-map=${FOLDER}=.`];
      await run(zig, ['c++', ...from, ...extra, '-c', path.join(FOLDER, file), '-o', object]);
      objects.push(object);
    }
    mkdirSync(path.dirname(output), { recursive: true });
    const link = [
      '-shared',
      '-nostdlib++',
      '-Wl,--gc-sections',
      '-Wl,-z,noexecstack',
      '-Wl,-z,relro',
      '-Wl,-z,now',
    ];
    await run(zig, ['cc', '-target', target, ...link, '-s', ...extra, '-o', output, ...objects, '-lm']);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const zig = (process.env.ZIG ?? 'python3 -m ziglang').split(' ');
  const version = spawnSync(zig[0], [...zig.slice(1), 'version'], { encoding: 'utf8' }).stdout?.trim();
  if (version !== ZIG_VERSION)
    throw new Error(`the compiler is zig ${version}; the libraries are built by ${ZIG_VERSION}`);
  const architectures = process.argv.length > 2 ? process.argv.slice(2) : ['x64'];
  for (const arch of architectures) {
    await buildLibrary(zig, arch, path.join(FOLDER, 'prebuilt', `linux-${arch}`, 'libshardserve-kernels.so'));
  }
  writeFileSync(path.join(FOLDER, 'prebuilt', 'sources.sha256'), `${sourceHash()}\n`);
}
