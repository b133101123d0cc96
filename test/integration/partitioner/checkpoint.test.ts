/** partitioner/checkpoint on real files: reading rows, and every way a folder can be wrong. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readlinkSync, symlinkSync, truncateSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readModelConfig } from '../../../partitioner/checkpoint/config-file.js';
import { openCheckpoint } from '../../../partitioner/checkpoint/safetensors.js';
import { requireTensor } from '../../../partitioner/checkpoint/tensor-source.js';
import { MAX_CONFIG_FILE_BYTES, MAX_SAFETENSORS_HEADER_BYTES } from '../../../proto/limits.js';
import {
  float32Bytes,
  halfBytes,
  safetensorsBytes,
  safetensorsFile,
} from '../../fixtures/safetensors-bytes.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'checkpoint-'));
});

afterEach(async () => {
  // Whatever a test did, a refused checkpoint leaves no file open.
  const open = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false; // the descriptor of this very listing
    }
  });
  await rm(folder, { recursive: true });
  expect(open).toEqual([]);
});

const write = (name: string, content: string | Uint8Array) => writeFile(join(folder, name), content);

const f32 = (name: string, ...values: number[]) => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: float32Bytes(values),
});

/** Opens what must be refused, and checks the error's kind; the message is the test's. */
function refusal(): string {
  try {
    openCheckpoint(folder).close();
  } catch (error) {
    expect(error).toMatchObject({ name: 'ServingError', code: 'CHECKPOINT_INVALID' });
    return (error as Error).message.replaceAll(folder, 'FOLDER');
  }
  return 'was accepted';
}

describe('reading rows', () => {
  it('gives any range of any stored type as float32 and as bytes', async () => {
    await write(
      'model.safetensors',
      safetensorsBytes(
        [
          { name: 'a', dtype: 'F32', shape: [3, 2], data: float32Bytes([1, 2, 3, 4, 5, 6]) },
          { name: 'b', dtype: 'F16', shape: [2, 2], data: halfBytes([0x3c00, 0xc000, 0x0001, 0x7c00]) },
          { name: 'c', dtype: 'BF16', shape: [3], data: halfBytes([0x3f80, 0xbf80, 0x4049]) },
          { name: 'd', dtype: 'F32', shape: [], data: float32Bytes([7]) },
          { name: 'e', dtype: 'F32', shape: [2, 3, 1], data: float32Bytes([1, 2, 3, 4, 5, 6]) },
        ],
        { format: 'pt' },
        3,
      ),
    );
    const source = openCheckpoint(folder);
    expect(source.tensors.get('b')).toEqual({ name: 'b', type: 'float16', shape: [2, 2] });
    expect([...source.readFloat32('a', 1, 3)]).toEqual([3, 4, 5, 6]);
    expect([...source.readFloat32('a', 1, 1)]).toEqual([]);
    expect([...source.readFloat32('b', 0, 2)]).toEqual([1, -2, 2 ** -24, Number.POSITIVE_INFINITY]);
    expect([...source.readFloat32('b', 1, 2)]).toEqual([2 ** -24, Number.POSITIVE_INFINITY]);
    expect([...source.readFloat32('c', 1, 3)]).toEqual([-1, 3.140625]);
    expect([...source.readFloat32('d', 0, 1)]).toEqual([7]);
    expect([...source.readFloat32('e', 1, 2)]).toEqual([4, 5, 6]);
    expect(Buffer.from(source.readBytes('b', 1, 2)).toString('hex')).toBe('0100007c');
    expect(Buffer.from(source.readBytes('a', 2, 3)).equals(float32Bytes([5, 6]))).toBe(true);

    const into = new Float32Array(5).fill(9);
    expect([...source.readFloat32('a', 0, 1, into.subarray(1))]).toEqual([1, 2]);
    expect([...into]).toEqual([9, 1, 2, 9, 9]);
    expect(() => source.readFloat32('a', 2, 4)).toThrow('rows 2 to 4 of a, which has 3');
    source.close();
    source.close();
    expect(() => source.readFloat32('a', 0, 1)).toThrow('closed');
  });

  it(`gives the same floats in any pieces, past the size of a conversion buffer (seed ${testSeed})`, async () => {
    const random = seededRandom(testSeed);
    const rows = 700;
    const columns = 501;
    const patterns = Array.from({ length: rows * columns }, () => random.integer(0, 0x7bff));
    await write(
      'model.safetensors',
      safetensorsBytes([
        f32('before', 1),
        { name: 'w', dtype: 'F16', shape: [rows, columns], data: halfBytes(patterns) },
      ]),
    );
    const source = openCheckpoint(folder);
    const whole = source.readFloat32('w', 0, rows);
    expect(whole.length).toBe(rows * columns);
    for (let from = 0; from < rows; ) {
      const to = Math.min(rows, from + random.integer(1, 300));
      const piece = source.readFloat32('w', from, to);
      expect(
        Buffer.compare(
          Buffer.from(piece.buffer),
          Buffer.from(whole.slice(from * columns, to * columns).buffer),
        ),
      ).toBe(0);
      from = to;
    }
    source.close();
  });

  it('lists the types it cannot read, and says so only when one is wanted', async () => {
    await write(
      'model.safetensors',
      safetensorsBytes([
        f32('a', 1),
        { name: 'rotary.inv_freq', dtype: 'F64', shape: [1], data: new Uint8Array(8) },
      ]),
    );
    const source = openCheckpoint(folder);
    expect([...source.tensors.keys()]).toEqual(['a']);
    const sentence =
      'Tensor rotary.inv_freq is of type F64, which cannot be read; supported are F32, F16 and BF16';
    expect(() => requireTensor(source, 'rotary.inv_freq')).toThrow(sentence);
    expect(() => source.readFloat32('rotary.inv_freq', 0, 1)).toThrow(sentence);
    expect(() => source.readBytes('lm_head', 0, 1)).toThrow('Tensor lm_head is missing from the checkpoint');
    source.close();
  });

  it('says which tensor was cut off by a file that shrinks while it is open', async () => {
    await write('model.safetensors', safetensorsBytes([f32('a', 1, 2, 3, 4)]));
    const source = openCheckpoint(folder);
    truncateSync(join(folder, 'model.safetensors'), source.files[0]!.bytes - 4);
    expect([...source.readFloat32('a', 0, 3)]).toEqual([1, 2, 3]);
    expect(() => source.readFloat32('a', 0, 4)).toThrow(
      /model\.safetensors: tensor a: the file was cut while it was read: 16 bytes wanted .* 12 there/,
    );
    source.close();
  });
});

describe('the files of a checkpoint', () => {
  const index = (weightMap: unknown, more = {}) =>
    write('model.safetensors.index.json', JSON.stringify({ ...more, weight_map: weightMap }));

  it('may be one of the usual name, listed with size and time', async () => {
    await write('model.safetensors', safetensorsBytes([f32('a', 1)]));
    await write('other.safetensors', 'not read');
    const source = openCheckpoint(folder);
    expect(source.files).toEqual([
      { path: 'model.safetensors', bytes: expect.any(Number), modifiedMs: expect.any(Number) },
    ]);
    source.close();
  });

  it('may be the only one there is, or a link to one elsewhere', async () => {
    await mkdir(join(folder, 'blobs'));
    await write('blobs/0a1b', safetensorsBytes([f32('a', 5)]));
    symlinkSync('blobs/0a1b', join(folder, 'weights.safetensors'));
    const source = openCheckpoint(folder);
    expect([...source.readFloat32('a', 0, 1)]).toEqual([5]);
    source.close();
  });

  it('may be many, with an index', async () => {
    await write('m-1.safetensors', safetensorsBytes([f32('a', 1), f32('b', 2)], { format: 'pt' }));
    await write('m-2.safetensors', safetensorsBytes([f32('c', 3)]));
    await write('consolidated.safetensors', 'not in the index, not read');
    await index(
      { a: 'm-1.safetensors', b: 'm-1.safetensors', c: 'm-2.safetensors' },
      { metadata: { total_size: 1 } },
    );
    const source = openCheckpoint(folder);
    expect(source.files.map(({ path }) => path)).toEqual([
      'model.safetensors.index.json',
      'm-1.safetensors',
      'm-2.safetensors',
    ]);
    expect([...source.tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect(['a', 'b', 'c'].map((name) => source.readFloat32(name, 0, 1)[0])).toEqual([1, 2, 3]);
    source.close();
  });

  it.each([
    ['../m.safetensors'],
    ['/etc/m.safetensors'],
    ['sub/m.safetensors'],
    ['sub\\m.safetensors'],
    ['..safetensors'],
    ['.safetensors'],
    ['m.safetensors\u0000'],
    ['m.bin'],
    [''],
    [7],
    [null],
  ])('are refused when the index names %j', async (file) => {
    await index({ 'x.weight': file });
    expect(refusal()).toMatch(
      /^FOLDER\/model\.safetensors\.index\.json: tensor x\.weight: its file is .*, expected the plain name/,
    );
  });

  it('are refused when the index and the files differ', async () => {
    await write('m-1.safetensors', safetensorsBytes([f32('a', 1), f32('b', 2)]));
    await write('m-2.safetensors', safetensorsBytes([f32('b', 3)]));
    await index({ a: 'm-1.safetensors', b: 'm-1.safetensors', c: 'm-2.safetensors' });
    expect(refusal()).toMatch(
      /index\.json: tensor c: is said to be in m-2\.safetensors, which does not have it/,
    );
    await index({ a: 'm-1.safetensors' });
    expect(refusal()).toMatch(/index\.json: tensor b: is in m-1\.safetensors but missing from the index/);
    await write('m-2.safetensors', safetensorsBytes([f32('c', 3), f32('b', 3)]));
    await index({ a: 'm-1.safetensors', b: 'm-1.safetensors', c: 'm-2.safetensors' });
    expect(refusal()).toMatch(/index\.json: tensor b: is in m-2\.safetensors and in m-1\.safetensors/);
  });

  it('are refused when one is missing, damaged or no file', async () => {
    await write('m-1.safetensors', safetensorsBytes([f32('a', 1)]));
    await index({ a: 'm-1.safetensors', b: 'm-2.safetensors' });
    expect(refusal()).toBe('FOLDER/m-2.safetensors: the file is missing');
    symlinkSync('nowhere', join(folder, 'm-2.safetensors'));
    expect(refusal()).toBe('FOLDER/m-2.safetensors: the file is missing');
    await rm(join(folder, 'm-2.safetensors'));
    await mkdir(join(folder, 'm-2.safetensors'));
    expect(refusal()).toBe('FOLDER/m-2.safetensors: not a plain file');
    await rm(join(folder, 'm-2.safetensors'), { recursive: true });
    // Opening a pipe that nobody writes to would wait for ever.
    execFileSync('mkfifo', [join(folder, 'm-2.safetensors')]);
    expect(refusal()).toBe('FOLDER/m-2.safetensors: not a plain file');
  });

  it('are refused when the index is not one', async () => {
    await write('model.safetensors.index.json', '{');
    expect(refusal()).toBe('FOLDER/model.safetensors.index.json: not JSON');
    await write('model.safetensors.index.json', '{}');
    expect(refusal()).toBe('FOLDER/model.safetensors.index.json: weight_map is missing or not an object');
    await index({});
    expect(refusal()).toBe('FOLDER/model.safetensors.index.json: weight_map is empty');
    await write('model.safetensors.index.json', '{"weight_map":{"a":"m.safetensors","a":"n.safetensors"}}');
    expect(refusal()).toBe('FOLDER/model.safetensors.index.json: the key a occurs twice in one object');
    await index(
      Object.fromEntries(Array.from({ length: 1001 }, (_, file) => [`t${file}`, `${file}.safetensors`])),
    );
    expect(refusal()).toBe('FOLDER/model.safetensors.index.json: names 1001 files, the limit is 1000');
  });

  it('are refused when their headers together pass the limit, each being within it', async () => {
    const pad = MAX_SAFETENSORS_HEADER_BYTES / 2;
    await write('m-1.safetensors', safetensorsBytes([f32('a', 1)], undefined, pad));
    await write('m-2.safetensors', safetensorsBytes([f32('b', 1)], undefined, pad));
    await index({ a: 'm-1.safetensors', b: 'm-2.safetensors' });
    expect(refusal()).toMatch(
      /^FOLDER\/m-2\.safetensors: brings the headers of this checkpoint to 1000\d{5} bytes, the limit is 100000000$/,
    );
  });

  it('are refused when there are none, too many without an index, or only pickles', async () => {
    expect(refusal()).toBe('FOLDER: no model.safetensors and no model.safetensors.index.json');
    await write('pytorch_model.bin', '');
    expect(refusal()).toMatch(
      /^FOLDER: only a pickled checkpoint \(pytorch_model\*\.bin\) and no safetensors file/,
    );
    await write('m-1.safetensors', '');
    await write('m-2.safetensors', '');
    expect(refusal()).toMatch(/^FOLDER: 2 safetensors files but no model\.safetensors\.index\.json/);
    await mkdir(join(folder, 'inner'));
    const whole = folder;
    folder = join(whole, 'absent');
    expect(refusal()).toMatch(/^FOLDER: the folder cannot be read \(ENOENT\)/);
    folder = whole;
  });
});

describe('a damaged file', () => {
  const right = safetensorsBytes([f32('a', 1, 2), f32('b', 3)]);

  it.each<[string, Uint8Array, string]>([
    ['of no length', Buffer.alloc(0), 'is 0 bytes long, a safetensors file has at least 8'],
    ['of seven bytes', right.subarray(0, 7), 'is 7 bytes long, a safetensors file has at least 8'],
    ['cut in its header', right.subarray(0, 60), 'bytes, but the file ends at 60'],
    [
      'cut in its data',
      right.subarray(0, right.length - 1),
      'tensor b: its data ends at byte 12, but the file holds 11',
    ],
    [
      'with a byte too many',
      Buffer.concat([right, Buffer.of(0)]),
      'tensor b ends at 12, but the file holds 13',
    ],
    [
      'that claims a header past the limit',
      safetensorsFile('{}', Buffer.alloc(0), BigInt(MAX_SAFETENSORS_HEADER_BYTES) + 1n),
      `its header claims ${MAX_SAFETENSORS_HEADER_BYTES + 1} bytes, the limit is ${MAX_SAFETENSORS_HEADER_BYTES}`,
    ],
    [
      'that claims a header of 2^64 − 1 bytes',
      safetensorsFile('{}', Buffer.alloc(0), 2n ** 64n - 1n),
      'its header claims 18446744073709551615 bytes, the limit is',
    ],
    [
      'whose header is longer than the file',
      safetensorsFile('{}', Buffer.alloc(0), 3n),
      'but the file ends at 10',
    ],
    ['whose header is empty', safetensorsFile('', Buffer.alloc(0)), 'the header does not begin with {'],
    ['that is a pickle', Buffer.from('PK\u0003\u0004 a zip file of pickles'), 'its header claims'],
  ])('%s is refused', async (_what, content, message) => {
    await write('model.safetensors', content);
    const sentence = refusal();
    expect(sentence).toMatch(/^FOLDER\/model\.safetensors: /);
    expect(sentence).toContain(message);
  });

  it('is refused wherever it was cut', async () => {
    for (let bytes = 0; bytes < right.length; bytes++) {
      await write('model.safetensors', right.subarray(0, bytes));
      expect(refusal(), `${bytes} bytes`).toMatch(/^FOLDER\/model\.safetensors: /);
    }
  });
});

describe('readModelConfig', () => {
  it('reads config.json, and generation_config.json if there is one', async () => {
    await write('config.json', '{"hidden_size":8,"eos_token_id":1}');
    const alone = readModelConfig(folder);
    expect(alone.generation).toBeNull();
    expect(alone.folder).toBe(folder);
    expect([alone.positiveInteger('hidden_size'), alone.endIds()]).toEqual([8, [1]]);
    await write('generation_config.json', '{"eos_token_id":[2,3],"top_p":0.9}');
    expect(readModelConfig(folder).endIds()).toEqual([2, 3]);
    expect(readModelConfig(folder).generation).toEqual({ eos_token_id: [2, 3], top_p: 0.9 });
  });

  it('refuses a folder without config.json, and files that are no JSON or too long', async () => {
    const error = (message: string) => expect.objectContaining({ code: 'CHECKPOINT_INVALID', message });
    const path = join(folder, 'config.json');
    expect(() => readModelConfig(folder)).toThrow(error(`${path}: the file is missing`));
    await write('config.json', '[]');
    expect(() => readModelConfig(folder)).toThrow(error(`${path}: not a JSON object`));
    await write('config.json', '');
    truncateSync(path, MAX_CONFIG_FILE_BYTES + 1);
    expect(() => readModelConfig(folder)).toThrow(
      error(`${path}: is ${MAX_CONFIG_FILE_BYTES + 1} bytes long, the limit is ${MAX_CONFIG_FILE_BYTES}`),
    );
    await write('config.json', '{}');
    await write('generation_config.json', '{,}');
    expect(() => readModelConfig(folder)).toThrow(
      error(`${join(folder, 'generation_config.json')}: not JSON`),
    );
  });
});
