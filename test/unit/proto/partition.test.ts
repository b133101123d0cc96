/** proto/partition.ts: what is refused of a request, and what is no event. */
import { describe, expect, it } from 'vitest';
import { readPartitionEvent, readPartitionRequest } from '../../../proto/partition.js';

const REQUEST = { folder: 'm', store: 's', tp: 2, dtype: 'auto' } as const;

describe('a request', () => {
  it('comes back as it was, with any of its options', () => {
    const full = {
      ...REQUEST,
      ...{ layout: 'blocks', blockSize: 32, symmetric: false, scales: 'nearest', planOnly: true },
      ...{ eightBit: ['head', 'down'], reproducibleDegree: 8, activationBits: 16 },
    };
    for (const asked of [REQUEST, full]) expect(readPartitionRequest(JSON.stringify(asked))).toEqual(asked);
  });

  it.each([
    ['{', 'not JSON'],
    ['[]', '/'],
    [JSON.stringify({ ...REQUEST, tp: 0 }), '/tp'],
    [JSON.stringify({ ...REQUEST, dtype: 'int2' }), '/dtype'],
    [JSON.stringify({ ...REQUEST, folder: '' }), '/folder'],
    [JSON.stringify({ ...REQUEST, eightBit: ['tail'] }), '/eightBit'],
    [JSON.stringify({ ...REQUEST, activationBits: 4 }), '/activationBits'],
    [JSON.stringify({ ...REQUEST, colour: 1 }), '/colour'],
  ])('%s is refused, by field', (text, where) => {
    expect(() => readPartitionRequest(text)).toThrow(where);
  });
});

describe('a line', () => {
  it('is an event where it is one', () => {
    const done = { event: 'done', shardFolder: '/s', reused: false, seconds: 1 };
    expect(readPartitionEvent(JSON.stringify(done))).toEqual(done);
  });

  it.each([
    'writing shards: 10 %',
    'null',
    '{"event":"toString"}',
    '{"event":"verified","tensors":1}',
    '{"event":"progress","doneBytes":-1,"totalBytes":2}',
  ])('%s is none', (line) => {
    expect(readPartitionEvent(line)).toBeNull();
  });
});
