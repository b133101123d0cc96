/**
 * CUDA's libraries into one folder: wheels from a Python package index, or from a folder where they lie already.
 *
 * In      the index's address (its simple API: JSON or HTML), or a folder; the packages, pinned by version and SHA-256
 * Out     the libraries, each under its name once it is whole; of a wheel that broke off NAME.part, which the next call continues
 * Limits  a wheel has as many bytes as the table says; only the libraries that are named are taken from it; linux-x64
 * Errors  MODEL_NOT_FOUND: the index does not answer, is none, or has no such file; BAD_REQUEST: its address is none; BAD_REQUEST,
 *         CHECKPOINT_INVALID: other bytes than the table's; OUT_OF_MEMORY: the disk has no room; UNSUPPORTED_PLATFORM: another machine;
 *         WORKER_FAILED: the folder cannot be written to
 * Source  PEP 503, PEP 691 (simple repository API)
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { openPromise } from 'yauzl';
import { missingCudaFiles } from '../../proto/cuda-libraries.js';
import { ServingError } from '../../proto/errors.js';
import { downloadFile, type RemoteBody } from '../model-store/download-file.js';
import { TransportError } from '../model-store/guarded-http.js';
import { CUDA_PACKAGES, type CudaPackage } from './cuda-packages.js';

const JSON_TYPE = 'application/vnd.pypi.simple.v1+json';

export interface InstallOptions {
  /** Where the libraries go. */
  folder: string;
  /** The index's; null: wheels are in `from`. */
  index: string | null;
  from: string | null;
  packages?: readonly CudaPackage[];
  print: (line: string) => void;
}

/** @throws ServingError */
export async function installCuda(options: InstallOptions): Promise<void> {
  try {
    await install(options);
  } catch (error) {
    throw inWords(error, options.folder);
  }
}

/** @throws ServingError UNSUPPORTED_PLATFORM */
export function checkPlatform(platform: string, arch: string): void {
  if (platform === 'linux' && arch === 'x64') return;
  const message = `CUDA's libraries: the packages are for linux-x64; this is ${platform}-${arch}`;
  throw new ServingError('UNSUPPORTED_PLATFORM', message);
}

async function install(options: InstallOptions): Promise<void> {
  const { folder, from, index, packages = CUDA_PACKAGES, print } = options;
  checkPlatform(process.platform, process.arch);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const wanted of packages) {
    const { bytes, file, libraries, name, version } = wanted;
    if (libraries.every((library) => existsSync(path.join(folder, library)))) {
      print(`${name} ${version} is there`);
      continue;
    }
    print(`${name} ${version}: ${Math.ceil(bytes / 1_000_000)} MB`);
    if (from !== null) {
      await unpack(await checked(path.join(from, file), wanted), wanted, folder);
      continue;
    }
    const wheel = path.join(folder, file);
    await fetchWheel(index ?? '', wanted, wheel);
    try {
      await unpack(await checked(wheel, wanted), wanted, folder);
    } finally {
      await rm(wheel, { force: true });
    }
  }
  if (packages !== CUDA_PACKAGES) return;
  const missing = missingCudaFiles(folder);
  if (missing.length > 0) throw damaged(`${missing.join(', ')} is in none of the packages`);
}

async function fetchWheel(index: string, wanted: CudaPackage, target: string): Promise<void> {
  const page = pageOf(index, wanted);
  await checkRoom(wanted, target);
  const address = await addressOf(page, wanted);
  await downloadFile({
    ...{ display: wanted.file, target, maxBytes: wanted.bytes, expectedBytes: wanted.bytes },
    open: (offset) => openAt(address, offset),
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
}

function pageOf(index: string, { name }: CudaPackage): URL {
  const base = index.endsWith('/') ? index : `${index}/`;
  const page = URL.canParse(base) ? new URL(`${name}/`, base) : null;
  if (page !== null && /^https?:$/.test(page.protocol)) return page;
  throw new ServingError(
    'BAD_REQUEST',
    `CUDA's libraries: ${index} is not the address of an index (http:// or https://)`,
  );
}

/** Before a download that would break off at its end. */
async function checkRoom({ bytes, file }: CudaPackage, target: string): Promise<void> {
  const { bavail, bsize } = await statfs(path.dirname(target));
  const there = await stat(`${target}.part`).catch(() => null);
  const [needed, free] = [bytes - (there?.size ?? 0), bavail * bsize];
  if (needed <= free) return;
  const megabytes = (count: number): number => Math.ceil(count / 1_000_000);
  throw noRoom(
    `${file} needs ${megabytes(needed)} MB in ${path.dirname(target)}, where ${megabytes(free)} MB are free`,
  );
}

/** The wheel from a byte on, or from its start where the server has no ranges. */
async function openAt(address: URL, offset: number): Promise<RemoteBody> {
  let answer: Response;
  try {
    answer = await fetch(address, { headers: offset === 0 ? {} : { range: `bytes=${offset}-` } });
  } catch (cause) {
    throw new TransportError(`${address.host} does not answer: ${reasonOf(cause)}`, { cause });
  }
  if (!answer.ok || answer.body === null) throw notFound(refusal(address, answer));
  const start = answer.status === 206 ? offset : 0;
  return { stream: Readable.fromWeb(answer.body), start, totalBytes: null };
}

/** The wheel's, by the index's page of the package. */
async function addressOf(page: URL, { file, name }: CudaPackage): Promise<URL> {
  const answer = await get(page, `${JSON_TYPE}, text/html;q=0.5`);
  const text = await answer.text();
  const isJson = answer.headers.get('content-type')?.includes('json') === true;
  const links = isJson
    ? jsonLinks(text)
    : [...text.matchAll(/href=["']([^"']+)["']/g)].map(([, href]) => href ?? '');
  const found = links.find((link) => {
    if (!URL.canParse(link, answer.url)) return false;
    const { pathname } = new URL(link, answer.url);
    return pathname.endsWith(`/${file}`) || pathname.endsWith(`/${encodeURIComponent(file)}`);
  });
  if (found === undefined) throw notFound(`the index has no ${file} among ${links.length} files of ${name}`);
  return new URL(found, answer.url);
}

/** None where it is no index's page. */
function jsonLinks(text: string): string[] {
  let page: unknown;
  try {
    page = JSON.parse(text);
  } catch {
    return [];
  }
  const files: unknown = (page as { files?: unknown } | null)?.files;
  if (!Array.isArray(files)) return [];
  return files.flatMap((file: { url?: unknown } | null) => (typeof file?.url === 'string' ? [file.url] : []));
}

async function get(address: URL, accept: string): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(address, { headers: { accept } });
  } catch (cause) {
    throw notFound(`${address.host} does not answer: ${reasonOf(cause)}`);
  }
  if (!answer.ok) throw notFound(refusal(address, answer));
  return answer;
}

const refusal = ({ host, pathname }: URL, { status }: Response): string =>
  `${host} answers ${status} for ${pathname}`;

/** @returns the file */
async function checked(file: string, wanted: CudaPackage): Promise<string> {
  if (!existsSync(file)) throw notFound(`there is no ${file}`);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  checkDigest(wanted, hash.digest('hex'));
  return file;
}

function checkDigest({ file, sha256 }: CudaPackage, found: string): void {
  if (found !== sha256) throw damaged(`${file} has the SHA-256 ${found}, not ${sha256}`);
}

async function unpack(wheel: string, { file, libraries }: CudaPackage, folder: string): Promise<void> {
  const zip = await openPromise(wheel, { autoClose: false });
  const left = new Set(libraries);
  try {
    for await (const entry of zip.eachEntry()) {
      const name = path.posix.basename(entry.fileName);
      if (!left.delete(name)) continue;
      const target = path.join(folder, name);
      try {
        await pipeline(
          await zip.openReadStreamPromise(entry),
          createWriteStream(`${target}.part`, { mode: 0o600 }),
        );
      } catch (error) {
        await rm(`${target}.part`, { force: true });
        throw error;
      }
      await rename(`${target}.part`, target);
    }
  } finally {
    zip.close();
  }
  if (left.size > 0) throw damaged(`${file} has no ${[...left].join(', ')}`);
}

/** What the network said, beneath what fetch says of everything. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return cause.message || (cause as NodeJS.ErrnoException).code || error.message;
}

function inWords(error: unknown, folder: string): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return noRoom(`there is no room on the disk in ${folder}; the next call goes on from here`, error);
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EEXIST':
    case 'EIO': {
      const message = `CUDA's libraries: ${folder} cannot be written to (${(error as Error).message})`;
      return new ServingError('WORKER_FAILED', message, { cause: error });
    }
    default:
      return error;
  }
}

const noRoom = (why: string, cause?: unknown): ServingError =>
  new ServingError('OUT_OF_MEMORY', `CUDA's libraries: ${why}`, { cause });
const notFound = (why: string): ServingError =>
  new ServingError('MODEL_NOT_FOUND', `CUDA's libraries: ${why}`);
const damaged = (why: string): ServingError =>
  new ServingError('CHECKPOINT_INVALID', `CUDA's libraries: ${why}`);
