/**
 * A GPU in software: SwiftShader, Google's Vulkan device on the CPU, with Khronos's loader, so that what runs on a GPU is tested without one.
 *
 * In      the package @sparticuz/chromium (MIT; SwiftShader and the loader in it are Apache-2.0), fetched once by npm, checked by its digest and
 *         kept in the user's cache
 * Out     the folder with libvulkan.so.1 and the driver's .json, or why there is none: tests are then skipped under that name, and counted
 * Limits  Linux x64; 70 MB are fetched, 13 MB kept
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import koffi from 'koffi';

const PACKAGE = '@sparticuz/chromium';
const VERSION = '153.0.0';
const DIGEST = 'jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA==';
const MEMBER = 'package/bin/swiftshader.tar.br';
const FETCH_TIMEOUT_MS = 120_000;

const CACHE = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'shardserve', 'vulkan');
const FOLDER = path.join(CACHE, VERSION);
const DRIVER = path.join(FOLDER, 'vk_swiftshader_icd.json');

/** Null: the software device is there. Fetches it where it is not. */
export const WHY_NO_SOFTWARE_VULKAN: string | null = provide();

/** What a process that computes on the software device is started with. */
export const SOFTWARE_VULKAN: Readonly<Record<string, string>> = {
  LD_LIBRARY_PATH: FOLDER,
  VK_ICD_FILENAMES: DRIVER,
  XDG_RUNTIME_DIR: FOLDER,
};

/** A collected handle unloads its library. */
const loaded: unknown[] = [];

/** From now on this process finds the software device. */
export function useSoftwareVulkan(): void {
  process.env.VK_ICD_FILENAMES = DRIVER;
  process.env.XDG_RUNTIME_DIR = FOLDER;
  // LD_LIBRARY_PATH is read when a process starts; a library that is there already is found by its name.
  loaded.push(koffi.load(path.join(FOLDER, 'libvulkan.so.1')));
}

function provide(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the software GPU is for Linux x64';
  if (existsSync(DRIVER)) return null;
  const scratch = mkdtempSync(path.join(tmpdir(), 'software-vulkan-'));
  try {
    return fetch(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function fetch(scratch: string): string | null {
  const args = ['pack', `${PACKAGE}@${VERSION}`, '--silent', '--pack-destination', scratch];
  const packed = spawnSync('npm', args, { encoding: 'utf8', cwd: scratch, timeout: FETCH_TIMEOUT_MS });
  const file = packed.stdout?.trim().split('\n').at(-1) ?? '';
  if (packed.status !== 0 || file === '') return `npm could not fetch ${PACKAGE}@${VERSION}`;
  const archive = path.join(scratch, path.basename(file));
  const digest = createHash('sha512').update(readFileSync(archive)).digest('base64');
  if (digest !== DIGEST) return `${PACKAGE}@${VERSION} is not the one that was looked at: sha512-${digest}`;
  const folder = path.join(scratch, 'libraries');
  mkdirSync(folder);
  const inner = path.join(scratch, 'swiftshader.tar');
  if (!untar(['-xzf', archive, '-C', scratch, MEMBER])) return `${PACKAGE} has no ${MEMBER}`;
  writeFileSync(inner, brotliDecompressSync(readFileSync(path.join(scratch, MEMBER))));
  if (!untar(['-xf', inner, '-C', folder])) return `${MEMBER} is not an archive`;
  mkdirSync(CACHE, { recursive: true });
  try {
    // Another test file may have been faster.
    if (!existsSync(FOLDER)) renameSync(folder, FOLDER);
  } catch (error) {
    if (!existsSync(DRIVER)) return `${FOLDER} cannot be made: ${String(error)}`;
  }
  return null;
}

function untar(args: readonly string[]): boolean {
  return spawnSync('tar', args).status === 0;
}
