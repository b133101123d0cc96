/** server/config/pbtxt.ts: protobuf's text format as Triton's users write it. */
import { describe, expect, it } from 'vitest';
import { PbtxtError, type PbtxtFields, parsePbtxt } from '../../../../server/config/pbtxt.js';

/** Maps as plain objects. */
const plain = (fields: PbtxtFields): Record<string, unknown> =>
  Object.fromEntries(
    [...fields].map(([name, values]) => [name, values.map((one) => (one instanceof Map ? plain(one) : one))]),
  );

describe('protobuf’s text format', () => {
  it('has fields, messages with and without a colon, lists, words and comments', () => {
    const text = `
# a model
name: "bert" ' large'; max_batch_size: 8,
input [ { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }, { name: 'mask', dims: -1 dims: 4 } ]
dynamic_batching { max_queue_delay_microseconds: 0x64 }
output: < name: "a\\"b" ok: true rate: 1.5e3 half: .5f >
instance_group { count: 2 kind: KIND_CPU } instance_group: { count: 1 } nothing { }`;
    expect(plain(parsePbtxt(text))).toEqual({
      name: ['bert large'],
      max_batch_size: [8],
      input: [
        { name: ['ids'], data_type: [{ word: 'TYPE_INT64' }], dims: [-1] },
        { name: ['mask'], dims: [-1, 4] },
      ],
      dynamic_batching: [{ max_queue_delay_microseconds: [100] }],
      output: [{ name: ['a"b'], ok: [true], rate: [1500], half: [0.5] }],
      instance_group: [{ count: [2], kind: [{ word: 'KIND_CPU' }] }, { count: [1] }],
      nothing: [{}],
    });
  });

  it.each([
    ['a: 1\nb {', 2, /the end is not the name of a field or }/],
    ['a: }', 1, /} is no value/],
    ['a 1', 1, /1 stands where : or { is wanted/],
    ['a: "no end', 1, /is not understood/],
    ['a: 1 }', 1, /} is not the name of a field/],
    [`${'a {'.repeat(40)}`, 1, /deeper than 32/],
  ])('%j is told by its line', (text, line, words) => {
    let error: unknown;
    try {
      parsePbtxt(text);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PbtxtError);
    expect((error as PbtxtError).line).toBe(line);
    expect((error as PbtxtError).message).toMatch(words);
  });

  it('takes no more time than its length, whatever it holds', () => {
    for (const piece of ['a ', '{ ', '"', '0', '-', '[', 'a:[', '#', "'\\", '. '])
      expect(() => parsePbtxt(piece.repeat(20_000))).not.toThrow(RangeError);
  });
});
