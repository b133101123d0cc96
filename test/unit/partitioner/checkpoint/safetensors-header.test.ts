/** partitioner/checkpoint/safetensors-header.ts: headers that are right, and headers that lie. */
import { describe, expect, it } from 'vitest';
import { parseSafetensorsHeader } from '../../../../partitioner/checkpoint/safetensors-header.js';
import { ServingError } from '../../../../proto/errors.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const parse = (header: unknown, dataBytes: number) =>
  parseSafetensorsHeader(
    Buffer.from(typeof header === 'string' ? header : JSON.stringify(header)),
    dataBytes,
    'm.safetensors',
  );

const entry = (dtype: unknown, shape: unknown, ...data_offsets: unknown[]) => ({
  dtype,
  shape,
  data_offsets,
});

describe('a right header', () => {
  it('gives type, shape and place of each tensor, in whatever order they are written', () => {
    const entries = parse(
      {
        __metadata__: { format: 'pt' },
        b: entry('F16', [2, 2], 8, 16),
        a: entry('F32', [2], 0, 8),
        empty: entry('F32', [0, 7], 16, 16),
        scalar: entry('BF16', [], 16, 18),
      },
      18,
    );
    expect([...entries.keys()]).toEqual(['b', 'a', 'empty', 'scalar']);
    expect(entries.get('b')).toEqual({ name: 'b', dtype: 'F16', shape: [2, 2], start: 8, end: 16 });
  });

  it('may have spaces after the JSON, and no tensor at all', () => {
    expect(parse('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   ', 4).size).toBe(1);
    expect(parse('{}', 0).size).toBe(0);
  });

  it('may hold types that nobody here reads, even one the format does not know', () => {
    const entries = parse(
      {
        i: entry('I64', [2], 0, 16),
        f4: entry('F4', [3, 2], 16, 19),
        odd: entry('F7_NEW', [3], 19, 24),
      },
      24,
    );
    expect(entries.get('odd')?.dtype).toBe('F7_NEW');
  });

  it('may name a tensor __proto__ or constructor', () => {
    const entries = parse(
      '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"constructor":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      8,
    );
    expect([...entries.keys()]).toEqual(['__proto__', 'constructor']);
  });
});

describe('a header that lies', () => {
  const a = entry('F32', [2], 0, 8);
  const x = (dtype: unknown, shape: unknown, ...offsets: unknown[]) => ({
    x: entry(dtype, shape, ...offsets),
  });
  it.each<[string, unknown, number, RegExp]>([
    ['is no JSON', '{"x":', 0, /m\.safetensors: not JSON/],
    ['is empty', '', 0, /m\.safetensors: the header does not begin with \{/],
    ['is a list', '[]', 0, /m\.safetensors: the header does not begin with \{/],
    ['begins with a space', ' {}', 0, /m\.safetensors: the header does not begin with \{/],
    ['has text after the object', '{}{}', 0, /m\.safetensors: not JSON/],
    [
      'names a tensor twice',
      '{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      8,
      /m\.safetensors: the key x occurs twice/,
    ],
    [
      'gives a type twice',
      '{"x":{"dtype":"F16","dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
      2,
      /m\.safetensors: the key dtype occurs twice/,
    ],
    [
      'has metadata of other than strings',
      { __metadata__: { n: 1 } },
      0,
      /__metadata__ is not an object of str/,
    ],
    ['has an entry that is a number', { x: 7 }, 0, /tensor x: its header entry is not an object/],
    ['has no dtype', { x: { shape: [1], data_offsets: [0, 4] } }, 4, /tensor x: its dtype is not a string/],
    ['has no shape', { x: { dtype: 'F32', data_offsets: [0, 4] } }, 4, /tensor x: its shape is missing/],
    ['has no offsets', { x: { dtype: 'F32', shape: [1] } }, 4, /tensor x: its data_offsets are missing/],
    ['has a negative axis', x('F32', [-1, -1], 0, 4), 4, /tensor x: its shape is \[-1,-1\]/],
    ['has a fraction of an axis', x('F32', [1.5], 0, 6), 6, /tensor x: its shape is \[1\.5\]/],
    ['has an axis of 2^53', x('F32', [2 ** 53], 0, 4), 4, /tensor x: its shape is \[9007199254740992\]/],
    [
      'has a product past 2^53',
      x('F32', [2 ** 31, 2 ** 31], 0, 4),
      4,
      /tensor x: its shape .* can be counted/,
    ],
    ['wraps around 2^64', x('F32', [2 ** 32, 2 ** 32, 1], 0, 0), 0, /tensor x: its shape .* can be counted/],
    ['has nine axes', x('F32', [1, 1, 1, 1, 1, 1, 1, 1, 1], 0, 4), 4, /tensor x: .* at most 8/],
    ['has a shape of text', x('F32', '2', 0, 8), 8, /tensor x: its shape is "2"/],
    ['has three offsets', x('F32', [1], 0, 4, 8), 8, /tensor x: its data_offsets are \[0,4,8\]/],
    ['has a negative offset', x('F32', [1], -4, 0), 4, /tensor x: its data_offsets are \[-4,0\]/],
    ['ends before it begins', x('F32', [1], 4, 0), 4, /tensor x: its data begins at 4, after its end at 0/],
    ['ends after the file', x('F32', [2], 0, 8), 7, /tensor x: its data ends at byte 8, but .* 7 bytes/],
    ['spans too little', x('F32', [3], 0, 8), 8, /tensor x: F32 of shape \[3\] takes 12 bytes, .* span 8/],
    ['spans too much', x('F16', [3], 0, 8), 8, /tensor x: F16 of shape \[3\] takes 6 bytes, .* span 8/],
    ['lies about a type nobody reads', x('I64', [1], 0, 4), 4, /tensor x: I64 of shape \[1\] takes 8 bytes/],
    ['has half a byte', x('F4', [3], 0, 1), 1, /tensor x: F4 of shape \[3\] takes 1\.5 bytes/],
    ['begins after a gap', x('F32', [1], 4, 8), 8, /tensor x: its data begins at 4, a gap after the start/],
    [
      'has a gap',
      { a, x: entry('F32', [1], 12, 16) },
      16,
      /tensor x: .* at 12, a gap after tensor a, .* at 8/,
    ],
    [
      'overlaps',
      { a, x: entry('F32', [2], 4, 12) },
      12,
      /tensor x: .* at 4, inside tensor a, which ends at 8/,
    ],
    ['has one tensor inside another', { a, x: entry('F32', [1], 4, 8) }, 8, /tensor x: .* inside tensor a/],
    ['has two at one place', { a, x: entry('F32', [2], 0, 8) }, 8, /tensor x: .* at 0, inside tensor a/],
    ['leaves bytes at the end', { x: a }, 12, /m\.safetensors: tensor x ends at 8, but the file holds 12/],
    ['leaves all bytes', {}, 1, /m\.safetensors: the start of the data ends at 0, but the file holds 1/],
    ['has a name that is not printable', { 'x\n': 7 }, 0, /tensor "x\\n": its header entry/],
  ])('that %s is refused with a sentence', (_what, header, dataBytes, message) => {
    let thrown: unknown;
    try {
      parse(header, dataBytes);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ServingError);
    expect((thrown as ServingError).code).toBe('CHECKPOINT_INVALID');
    expect((thrown as ServingError).message).toMatch(message);
  });

  it(`is either refused with CHECKPOINT_INVALID or in order, whatever bytes are changed (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    const right = Buffer.from(
      JSON.stringify({
        a,
        b: entry('F16', [2, 2], 8, 16),
        c: entry('BF16', [3], 16, 22),
      }),
    );
    for (let round = 0; round < 3000; round++) {
      const header = Buffer.from(right);
      for (let change = random.integer(1, 3); change > 0; change--) {
        header[random.integer(0, header.length - 1)] = random.pick([
          ...Buffer.from('0123456789,:[]{}"-.eFB '),
        ]);
      }
      try {
        const entries = [...parseSafetensorsHeader(header, 22, 'm.safetensors').values()];
        const covered = entries.reduce((sum, { start, end }) => sum + end - start, 0);
        expect(covered, header.toString()).toBe(22);
      } catch (error) {
        expect(error, header.toString()).toMatchObject({ name: 'ServingError', code: 'CHECKPOINT_INVALID' });
      }
    }
  });
});
