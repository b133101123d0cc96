/** What messages take as objects, by what is on the wire. */
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { protoFile } from '../../../../proto/proto-file.js';
import { decodedBytes, messageShape } from '../../../../server/grpc/decoded-bytes.js';

const types = protobuf.loadSync(protoFile('open_inference.proto'));
const request = types.lookupType('inference.ModelInferRequest');
const shape = messageShape(request);
const bytesOf = (message: object): Uint8Array => request.encode(request.fromObject(message)).finish();
const taken = (message: object): number => decodedBytes(shape, bytesOf(message));

describe('a message', () => {
  it.each([
    ['of tensors in bytes takes about what it has', { rawInputContents: [new Uint8Array(100_000)] }, 100_004],
    ['of floats likewise', { inputs: [{ contents: { fp32Contents: new Array(1000).fill(0) } }] }, 4009],
    ['of empty inputs is that many objects', { inputs: new Array(1000).fill({}) }, 512_000],
    [
      'of empty texts likewise',
      { inputs: [{ contents: { bytesContents: new Array(1000).fill('') } }] },
      129_024,
    ],
    [
      'of whole numbers, a text each',
      { inputs: [{ contents: { int64Contents: new Array(1000).fill(7) } }] },
      33_040,
    ],
    [
      'of short ones, a number each',
      { inputs: [{ contents: { intContents: new Array(1000).fill(7) } }] },
      5040,
    ],
    ['of numbers of two bytes', { inputs: [{ contents: { intContents: new Array(1000).fill(300) } }] }, 5040],
    ['of a shape', { inputs: [{ shape: new Array(1000).fill(1) }] }, 32_528],
  ])('%s', (_, message, bytes) => {
    expect(taken(message)).toBe(bytes);
  });

  it('of entries of a map counts them, and what is in their values', () => {
    const parameters = Object.fromEntries(
      Array.from({ length: 1000 }, (_, index) => [`${index}`, { boolParam: true }]),
    );
    expect(taken({ parameters })).toBeGreaterThan(2 * 512 * 1000);
  });

  it('that is none is counted to where it breaks off', () => {
    const good = bytesOf({ inputs: [{ contents: { int64Contents: [1, 2, 3] } }], id: 'x' });
    for (let length = 0; length <= good.length; length++)
      expect(decodedBytes(shape, good.subarray(0, length))).toBeGreaterThanOrEqual(length);
    for (let byte = 0; byte < 256; byte++)
      expect(decodedBytes(shape, new Uint8Array(64).fill(byte))).toBeGreaterThanOrEqual(64);
  });
});
