/** `shardserve gpu install` from an index on this machine. */
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import type { CudaPackage } from '../../../server/gpu/cuda-packages.js';
import { checkPlatform, installCuda } from '../../../server/gpu/install-cuda.js';

let root: string;
let server: Server;
let index: string;
let wheel: Buffer;
let asJson = true;
/** What the index answers instead of a page; null: its page. */
let page: string | null = null;
/** Bytes after which the wheel's answers end, one after another. */
let breaks: number[] = [];
let ranges: (string | undefined)[] = [];
let wanted: CudaPackage;

beforeAll(async () => {
  root = mkdtempSync(path.join(tmpdir(), 'install-cuda-'));
  const zip = new ZipFile();
  zip.addBuffer(Buffer.from('first'), 'deep/in/it/libfirst.so.1');
  zip.addBuffer(Buffer.from('other'), 'other/file.txt');
  zip.addBuffer(Buffer.from('second'), 'libsecond.so');
  zip.end();
  wheel = await buffer(zip.outputStream as NodeJS.ReadableStream as never);
  wanted = {
    ...{ name: 'toy-libraries', version: '1.0', file: 'toy_libraries-1.0-py3-none-any.whl' },
    ...{ sha256: createHash('sha256').update(wheel).digest('hex'), bytes: wheel.length },
    libraries: ['libfirst.so.1', 'libsecond.so'],
  };
  server = createServer((request, response) => {
    const file = `/files/${wanted.file}`;
    if (request.url === file) sendWheel(request, response);
    else if (request.url !== '/simple/toy-libraries/') response.writeHead(404).end();
    else if (page !== null) {
      response.setHeader('content-type', page.startsWith('<') ? 'text/html' : 'application/json');
      response.end(page);
    } else if (asJson) {
      response.setHeader('content-type', 'application/vnd.pypi.simple.v1+json');
      response.end(JSON.stringify({ files: [{ url: '../../files/else.whl' }, { url: `../..${file}` }] }));
    } else {
      response.setHeader('content-type', 'text/html');
      response.end(`<a href="../..${file}#sha256=${wanted.sha256}">it</a>`);
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  index = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`;
});

/** From the byte that is asked for on; breaks off where it is told to. */
function sendWheel(request: IncomingMessage, response: ServerResponse): void {
  ranges.push(request.headers.range);
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const length = breaks.shift();
  const headers = { 'content-length': wheel.length - from };
  response.writeHead(from > 0 ? 206 : 200, headers);
  if (length === undefined) response.end(wheel.subarray(from));
  else response.write(wheel.subarray(from, from + length), () => response.destroy());
}

afterAll(() => {
  server.close();
  rmSync(root, { recursive: true });
});

let nextFolder = 0;
const install = async (options: { index?: string | null; from?: string; packages?: CudaPackage[] } = {}) => {
  const folder = path.join(root, `out-${nextFolder++}`);
  const lines: string[] = [];
  const { from = null, packages = [wanted] } = options;
  const chosen = options.index === undefined ? index : options.index;
  const done = installCuda({ folder, from, packages, index: chosen, print: (line) => lines.push(line) });
  return { done, folder, lines };
};

describe('installing', () => {
  it.each([true, false])(
    'takes the libraries out of the wheel that the index names (as JSON: %s)',
    async (json) => {
      asJson = json;
      const { done, folder } = await install();
      await done;
      expect(readdirSync(folder).sort()).toEqual(['libfirst.so.1', 'libsecond.so']);
      expect(readFileSync(path.join(folder, 'libfirst.so.1'), 'utf8')).toBe('first');
    },
  );

  it('goes on where a connection broke, also in another call', async () => {
    [breaks, ranges] = [[7], []];
    const { done, folder } = await install();
    await done;
    expect(ranges).toEqual([undefined, 'bytes=7-']);
    expect(readFileSync(path.join(folder, 'libsecond.so'), 'utf8')).toBe('second');
    // Four attempts of a byte each; the next call has the rest.
    [breaks, ranges] = [[1, 1, 1, 1], []];
    const broken = await install();
    await expect(broken.done).rejects.toThrow('could not be downloaded in 4 attempts');
    expect(readdirSync(broken.folder)).toEqual([`${wanted.file}.part`]);
    await installCuda({
      ...{ folder: broken.folder, from: null, packages: [wanted], index },
      print: () => undefined,
    });
    expect(ranges.at(-1)).toBe('bytes=4-');
    expect(readdirSync(broken.folder).sort()).toEqual(['libfirst.so.1', 'libsecond.so']);
  });

  it('takes wheels from a folder', async () => {
    const from = path.join(root, 'wheels');
    mkdirSync(from);
    writeFileSync(path.join(from, wanted.file), wheel);
    const { done, folder } = await install({ index: null, from });
    await done;
    expect(readFileSync(path.join(folder, 'libsecond.so'), 'utf8')).toBe('second');
  });

  it('leaves nothing of a wheel with other bytes', async () => {
    const { done, folder } = await install({ packages: [{ ...wanted, sha256: 'ab'.repeat(32) }] });
    await expect(done).rejects.toThrow(`has the SHA-256 ${wanted.sha256}, not abab`);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [{ file: 'toy_libraries-9.whl' }, 'the index has no toy_libraries-9.whl among 2 files of toy-libraries'],
    [{ name: 'nobody' }, 'answers 404 for /simple/nobody/'],
    [{ libraries: ['libthird.so'] }, 'has no libthird.so'],
    [{ bytes: 10 }, 'at most 10 may be downloaded'],
    [{ bytes: 2 ** 60 }, /toy_libraries-1\.0-\S+ needs 115292150460\d MB in \S+, where \d+ MB are free/],
  ] as [Partial<CudaPackage>, string | RegExp][])('says what is wrong: %o', async (fields, message) => {
    asJson = true;
    const { done } = await install({ packages: [{ ...wanted, ...fields }] });
    await expect(done).rejects.toThrow(message);
  });

  it.each([
    ['nowhere', 'nowhere is not the address of an index (http:// or https://)'],
    ['file:///wheels', 'file:///wheels is not the address of an index'],
    ['http://127.0.0.1:1/simple', "CUDA's libraries: 127.0.0.1:1 does not answer: "],
    ['http://index.invalid/simple', /index\.invalid does not answer: .*(ENOTFOUND|EAI_AGAIN) index\.invalid/],
  ] as [string, string | RegExp][])('says what is wrong with the index %s', async (address, message) => {
    const { done } = await install({ index: address });
    await expect(done).rejects.toThrow(message);
  });

  it('takes a page that is no index for one without files', async () => {
    page = '<!doctype html><p>Sign in</p><a href="http://[">?</a>';
    const one = await install();
    await expect(one.done).rejects.toThrow('has no toy_libraries-1.0-py3-none-any.whl among 1 files');
    for (const text of ['not JSON', 'null', '{"files": 5}', '{"files": [null, {"url": 7}]}']) {
      page = text;
      const other = await install();
      await expect(other.done).rejects.toThrow('has no toy_libraries-1.0-py3-none-any.whl among 0 files');
    }
    page = null;
  });

  it('says that the disk is full, leaves nothing half written, and goes on when there is room', async () => {
    const folder = path.join(root, 'full');
    mkdirSync(folder);
    const again = () => installCuda({ folder, from: null, packages: [wanted], index, print: () => {} });
    for (const file of [wanted.file, 'libfirst.so.1']) {
      symlinkSync('/dev/full', path.join(folder, `${file}.part`));
      await expect(again()).rejects.toMatchObject({
        code: 'OUT_OF_MEMORY',
        message: `CUDA's libraries: there is no room on the disk in ${folder}; the next call goes on from here`,
      });
      rmSync(path.join(folder, `${file}.part`), { force: true });
    }
    expect(readdirSync(folder)).toEqual([]);
    await again();
    expect(readdirSync(folder).sort()).toEqual(['libfirst.so.1', 'libsecond.so']);
  });

  it('names a folder that cannot be written to', async () => {
    const folder = path.join(root, 'a-file');
    writeFileSync(folder, '');
    const done = installCuda({
      folder: `${folder}/in`,
      from: null,
      packages: [wanted],
      index,
      print: () => {},
    });
    await expect(done).rejects.toThrow(`CUDA's libraries: ${folder}/in cannot be written to (ENOTDIR`);
  });

  it('is for one platform, and names the other', () => {
    expect(() => checkPlatform('linux', 'x64')).not.toThrow();
    for (const [platform, arch] of [
      ['linux', 'arm64'],
      ['darwin', 'x64'],
    ] as const) {
      expect(() => checkPlatform(platform, arch)).toThrow(`for linux-x64; this is ${platform}-${arch}`);
    }
  });
});
