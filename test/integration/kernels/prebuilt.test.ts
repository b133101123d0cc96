/** The committed libraries of shard-worker/kernels are built from the committed sources, and need and show no more than they should. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { chooseVariant, variantCalls } from '../../../shard-worker/native/kernel-variant.js';
import { kernelFunctions } from '../../support/kernel-functions.js';
import { ROOT } from '../../tidy/repository.js';

const FOLDER = path.join(ROOT, 'shard-worker', 'kernels');
const PREBUILT = path.join(FOLDER, 'prebuilt');
const libraries = readdirSync(PREBUILT)
  .filter((name) => name.startsWith('linux-'))
  .map((name) => path.join(PREBUILT, name, 'libshardserve-kernels.so'));

it('were built from the sources that are here', async () => {
  const { sourceHash } = (await import(pathToFileURL(path.join(FOLDER, 'build.mjs')).href)) as {
    sourceHash: () => string;
  };
  const built = readFileSync(path.join(PREBUILT, 'sources.sha256'), 'utf8').trim();
  expect(built, 'run shard-worker/kernels/build.mjs (README.md there)').toBe(sourceHash());
});

const zig = process.env.ZIG ?? null;
it.runIf(zig !== null).each(libraries)(
  '%s is what the pinned compiler makes (environment ZIG; not checked without it)',
  async (file) => {
    const { buildLibrary } = (await import(pathToFileURL(path.join(FOLDER, 'build.mjs')).href)) as {
      buildLibrary: (zig: string[], arch: string, output: string) => Promise<void>;
    };
    const scratch = mkdtempSync(path.join(tmpdir(), 'kernels-rebuilt-'));
    try {
      const built = path.join(scratch, 'rebuilt', 'libshardserve-kernels.so');
      await buildLibrary(zig!.split(' '), path.basename(path.dirname(file)).replace('linux-', ''), built);
      expect(readFileSync(built).equals(readFileSync(file))).toBe(true);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  },
  300_000,
);

it.each(libraries)('%s is at most 1 MB', (file) => {
  expect(statSync(file).size).toBeLessThanOrEqual(1_000_000);
});

it.each(libraries)('%s shows the functions of kernels.h and the operator alone', (file) => {
  const { names } = dynamicSymbols(readFileSync(file));
  const header = readFileSync(path.join(FOLDER, 'kernels.h'), 'utf8');
  const declared = [...header.matchAll(/^SS_EXPORT [^;(]*?(ss_\w+)\(/gm)].map(([, name]) => name!);
  expect(declared.length).toBeGreaterThan(10);
  expect(names.sort()).toEqual([...declared, 'RegisterCustomOps'].sort());
});

it.each(libraries)('%s needs libc and libm of glibc 2.28 and nothing else', (file) => {
  const { strings } = dynamicSymbols(readFileSync(file));
  const needed = strings.filter((text) => /\.so(\.|$)/.test(text));
  expect(
    needed.filter((text) => !/^(libc|libm|ld-linux-[\w-]+|libshardserve-kernels)\.so/.test(text)),
  ).toEqual([]);
  const versions = strings.flatMap((text) => /^GLIBC_2\.(\d+)/.exec(text)?.[1] ?? []);
  expect(Math.max(0, ...versions.map(Number))).toBeLessThanOrEqual(28);
});

/** Reads an ELF file of 64 bits: the symbols that it offers, and all strings of its dynamic section. */
function dynamicSymbols(elf: Buffer): { names: string[]; strings: string[] } {
  const sections = Array.from({ length: elf.readUInt16LE(60) }, (_, index) => {
    const at = Number(elf.readBigUInt64LE(40)) + index * elf.readUInt16LE(58);
    const offset = Number(elf.readBigUInt64LE(at + 24));
    const bytes = elf.subarray(offset, offset + Number(elf.readBigUInt64LE(at + 32)));
    return { type: elf.readUInt32LE(at + 4), link: elf.readUInt32LE(at + 40), bytes };
  });
  const symbols = sections.find(({ type }) => type === 11)!;
  const strings = sections[symbols.link]!.bytes;
  const names: string[] = [];
  for (let at = 24; at < symbols.bytes.length; at += 24) {
    const isDefined = symbols.bytes.readUInt16LE(at + 6) !== 0;
    const name = symbols.bytes.readUInt32LE(at);
    if (isDefined) names.push(strings.toString('latin1', name, strings.indexOf(0, name)));
  }
  return { names, strings: strings.toString('latin1').split('\0') };
}

it('SHARDSERVE_KERNELS=off is as if there were none', () => {
  const before = process.env.SHARDSERVE_KERNELS;
  process.env.SHARDSERVE_KERNELS = 'off';
  try {
    expect(kernelLibrary()).toBeNull();
  } finally {
    if (before === undefined) delete process.env.SHARDSERVE_KERNELS;
    else process.env.SHARDSERVE_KERNELS = before;
  }
});

it.runIf(kernelLibrary() !== null)(
  'the library runs by a set of instructions no better than the one asked for',
  () => {
    const { library, variants } = kernelFunctions();
    const calls = variantCalls(library);
    const current = library.func('int32_t ss_variant()') as () => number;
    for (const name of variants) {
      expect(chooseVariant(calls, name)).toEqual([]);
      expect(calls.name(current())).toBe(name);
    }
    expect(chooseVariant(calls, undefined)).toEqual([]);
    expect(calls.name(current())).toBe(variants.at(-1));
  },
);
