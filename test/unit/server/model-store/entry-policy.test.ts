/** server/model-store/entry-policy: the rules for an archive's entries. */
import { describe, expect, it } from 'vitest';
import {
  EntryPolicy,
  MAX_NAME_BYTES,
  RATIO_FLOOR_BYTES,
  safeSegments,
} from '../../../../server/model-store/entry-policy.js';

const limits = { maxUnpackedBytes: 10_000_000, maxEntries: 3, maxCompressionRatio: 10 };
const file = (name: string, declaredBytes = 0) => ({ name, kind: 'file' as const, declaredBytes });

describe('a path', () => {
  it.each([
    ['a/b', ['a', 'b']],
    ['a/', ['a']],
    ['./a', ['a']],
    ['./', []],
    ['.', []],
    ['.hidden', ['.hidden']],
    ['a..b', ['a..b']],
  ])('%s stays inside', (name, segments) => {
    expect(safeSegments(name)).toEqual(segments);
  });

  it.each([
    '',
    '/',
    '..',
    './..',
    './/a',
    'a/..',
    '/./a',
    '././a',
    'c:\\x',
    'a\u007f',
    'x'.repeat(MAX_NAME_BYTES + 1),
  ])('%j is refused', (name) => {
    expect(typeof safeSegments(name)).toBe('string');
  });
});

describe('the limits', () => {
  it('entries: the last that fits is taken, the next is not', () => {
    const policy = new EntryPolicy(limits, 1000);
    expect(['a', 'b', 'c'].map((name) => policy.admit(file(name)))).toEqual(['a', 'b', 'c']);
    expect(() => policy.admit(file('d'))).toThrow('more than 3 entries');
  });

  it('bytes: declared ones count together, before any comes', () => {
    const policy = new EntryPolicy(limits, 1000);
    policy.admit(file('a', 9_999_999));
    expect(() => policy.admit(file('b', 2))).toThrow('at least 10000001 bytes, at most 10000000');
  });

  it('bytes: real ones count whatever was declared', () => {
    const policy = new EntryPolicy(limits, 10_000_000);
    policy.count(10_000_000);
    expect(() => policy.count(1)).toThrow('at most 10000000');
  });

  it('ratio: counts past its floor only', () => {
    const policy = new EntryPolicy(limits, 1000);
    policy.count(RATIO_FLOOR_BYTES);
    expect(() => policy.count(1)).toThrow('more than 10 times its size');
  });

  it('ratio: an honest archive above the floor passes', () => {
    const policy = new EntryPolicy(limits, RATIO_FLOOR_BYTES);
    expect(() => policy.count(9 * RATIO_FLOOR_BYTES)).not.toThrow();
  });

  it.each([-1, Number.NaN, 2 ** 60, 0.5])('a size of %d is none', (bytes) => {
    expect(() => new EntryPolicy(limits, 1).admit(file('a', bytes))).toThrow('says that it has');
  });
});

describe('names that meet', () => {
  it('letter case and Unicode form make no difference', () => {
    const policy = new EntryPolicy(limits, 1);
    policy.admit(file('caf\u00e9'));
    expect(() => policy.admit(file('cafe\u0301'))).toThrow('collides');
  });

  it('a folder may be named again, a file may not', () => {
    const policy = new EntryPolicy(limits, 1);
    policy.admit({ name: 'a/', kind: 'directory', declaredBytes: 0 });
    policy.admit(file('a/x'));
    expect(() => policy.admit(file('a/x'))).toThrow('comes twice');
  });
});
