/** proto/gguf-header: what a file says is read as it stands; a file that lies is refused, and nothing else happens. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { readGgufHeader } from '../../../proto/gguf-header.js';
import { ggufBytes, u64 } from '../../support/gguf-bytes.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'gguf-header-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function read(bytes: Uint8Array) {
  const file = path.join(scratch, 'model.gguf');
  writeFileSync(file, bytes);
  return readGgufHeader(file);
}

const METADATA = {
  'general.architecture': 'llama',
  size: 7,
  scale: 0.5,
  flag: true,
  tokens: ['a', 'é', ''],
  scores: [1.5, -2],
};
const TENSORS = [
  { name: 'one', shape: [2, 3], values: new Float32Array(6) },
  { name: 'two', shape: [5], values: new Float32Array(5) },
];
const WHOLE = ggufBytes(METADATA, TENSORS);

describe('a sound file', () => {
  it('is read as it stands', () => {
    const header = read(WHOLE);
    expect(Object.fromEntries(header.metadata)).toEqual(METADATA);
    expect([...header.tensors.values()]).toEqual([
      { name: 'one', shape: [2, 3], type: 0, offset: 0 },
      { name: 'two', shape: [5], type: 0, offset: 32 },
    ]);
    expect(header.dataStart + 64).toBe(WHOLE.length);
  });
});

describe('a file that lies', () => {
  /** The bytes with others in the place of the first `from`. */
  const replaced = (from: Uint8Array, to: Uint8Array): Buffer => {
    const at = WHOLE.indexOf(from);
    expect(at).toBeGreaterThan(0);
    return Buffer.concat([WHOLE.subarray(0, at), to, WHOLE.subarray(at + from.length)]);
  };
  const refused = (bytes: Uint8Array, message: string): void => {
    expect(() => read(bytes)).toThrow(message);
    expect(() => read(bytes)).toThrow(expect.objectContaining({ code: 'CHECKPOINT_INVALID' }));
  };

  it('of another kind or version is refused', () => {
    refused(Buffer.from('{}'), 'does not begin with "GGUF"');
    refused(
      Buffer.concat([Buffer.from('GGUF'), Buffer.from([1, 0, 0, 0]), WHOLE.subarray(8)]),
      'GGUF version 1',
    );
    refused(Buffer.concat([Buffer.from('GGUF'), Buffer.from([0, 0, 0, 3]), WHOLE.subarray(8)]), 'big-endian');
  });

  it('with counts beyond the limits is refused before anything is made of them', () => {
    const counts = (tensors: bigint, entries: bigint): Buffer =>
      Buffer.concat([WHOLE.subarray(0, 8), u64(tensors), u64(entries), WHOLE.subarray(24)]);
    refused(counts(2n ** 63n, 1n), 'more than can be counted');
    refused(counts(100_000n, 1n), 'claims 100000 tensors, the limit is 65536');
    refused(counts(1n, 5000n), 'claims 5000 entries of metadata, the limit is 4096');
    // The three tokens: type 8, count 3.
    const tokens = Buffer.concat([Buffer.from([9, 0, 0, 0, 8, 0, 0, 0]), u64(3)]);
    refused(
      replaced(tokens, Buffer.concat([tokens.subarray(0, 8), u64(2 ** 40)])),
      'the limit over all arrays is',
    );
    refused(
      replaced(Buffer.concat([u64(1), Buffer.from('a')]), Buffer.concat([u64(2 ** 30), Buffer.from('a')])),
      'claims 1073741824 bytes',
    );
  });

  it('with sizes, places and names that cannot be is refused', () => {
    const axes = Buffer.concat([u64(3), u64(2)]);
    refused(replaced(axes, Buffer.concat([u64(0), u64(2)])), 'has 0 as size of an axis');
    refused(replaced(axes, Buffer.concat([u64(2 ** 31), u64(2 ** 31)])), 'more elements than can be counted');
    refused(replaced(Buffer.from('two'), Buffer.from('one')), 'tensor one occurs twice');
  });

  it.each(Array.from({ length: 40 }, (_, index) => index))(
    'cut or with a changed byte (seed %i) throws nothing else',
    (seed) => {
      let state = seed + 1;
      const random = (below: number): number => {
        state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
        return state % below;
      };
      for (let turn = 0; turn < 20; turn++) {
        const bytes = Buffer.from(WHOLE);
        for (let change = random(3); change >= 0; change--) bytes[random(bytes.length)] = random(256);
        const cut = random(2) === 0 ? bytes : bytes.subarray(0, random(bytes.length));
        try {
          read(cut);
        } catch (error) {
          expect(error).toBeInstanceOf(ServingError);
        }
      }
    },
  );
});
