/** Archives of models: tar, tar.gz, zip and .mar, which is a zip. Nothing may be written outside of the folder. */
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';
import { unpackArchive } from '../../../server/model-store/unpack-archive.js';
import type { SeededRandom } from '../../fixtures/seeded-random.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';
import { mutatedBytes, mutatedText } from '../mutations.js';
import { putFile, scratchFolder } from '../scratch.js';

const LIMITS = { maxUnpackedBytes: 1_048_576, maxEntries: 50, maxCompressionRatio: 200 };
const NAMES = ['config.json', 'sub/model.safetensors', 'MAR-INF/MANIFEST.json', 'a/b/c/d.txt', './x', 'dir/'];
const NAME_WORDS = [
  '../',
  '/',
  '..',
  '\\',
  'C:',
  '\u0000',
  '~',
  './',
  '//',
  'CON',
  '.',
  ' ',
  'a'.repeat(260),
  '😀',
];
const TYPES = ['file', 'file', 'file', 'directory', 'symlink', 'link', 'character-device', 'fifo'] as const;

const nameOf = (random: SeededRandom): string => {
  const name = random.pick(NAMES);
  return random.next() < 0.5 ? name : mutatedText(name, random, NAME_WORDS).slice(0, 400);
};

async function tarOf(random: SeededRandom): Promise<Buffer> {
  const tar = pack();
  for (let count = random.integer(1, 6); count > 0; count--) {
    const type = random.pick(TYPES);
    const header = {
      name: nameOf(random) || 'x',
      type,
      mode: random.pick([0o644, 0o4755, 0o777]),
      ...(type.includes('link') && { linkname: nameOf(random) || 'y' }),
    };
    if (type === 'file') tar.entry(header, 'x'.repeat(random.integer(0, 2000)));
    else tar.entry(header);
  }
  tar.finalize();
  const bytes = await buffer(tar);
  return random.next() < 0.3 ? gzipSync(bytes) : bytes;
}

async function zipOf(random: SeededRandom): Promise<Buffer> {
  const zip = new ZipFile();
  for (let count = random.integer(1, 6); count > 0; count--) {
    const name = nameOf(random);
    try {
      zip.addBuffer(Buffer.alloc(random.integer(0, 3000), 'x'), name, {
        compress: random.next() < 0.5,
        mode: random.pick([0o100644, 0o120777, 0o104755]),
      });
    } catch {
      zip.addBuffer(Buffer.from(name), `ok${count}`);
    }
  }
  zip.end();
  return buffer(zip.outputStream as unknown as NodeJS.ReadableStream);
}

async function unpack(bytes: Buffer): Promise<void> {
  const folder = scratchFolder('archive');
  const archive = putFile(folder, 'in/archive', bytes);
  const target = path.join(folder, 'out');
  rmSync(target, { recursive: true, force: true });
  const outcome = await unpackArchive({ archive, target, limits: LIMITS }, () => {}).then(
    () => null,
    (error: unknown) => error,
  );
  const beside = readdirSync(folder).filter((name) => name !== 'in' && name !== 'out');
  const above = readdirSync(path.dirname(folder)).filter((name) => name.startsWith('passwd'));
  if (beside.length + above.length > 0) throw new Error(`written outside of the folder: ${beside} ${above}`);
  if (outcome !== null) throw outcome;
}

const target = (name: string, make: (random: SeededRandom) => Promise<Buffer>): FuzzTarget => ({
  name,
  weight: 1.5,
  async run(random) {
    const bytes = await make(random);
    await unpack(random.next() < 0.3 ? bytes : mutatedBytes([bytes], random));
  },
  isExpected: isOperating,
});

export const ARCHIVE_TARGETS: readonly FuzzTarget[] = [target('tar', tarOf), target('zip', zipOf)];
