/** Bodies that come in very many pieces. */
import { describe, expect, it } from 'vitest';
import { PieceBlocks } from '../../../../server/http/bodies/piece-blocks.js';
import { seededRandom } from '../../../fixtures/seeded-random.js';

function blocksOf(pieces: readonly Buffer[]): Buffer[] {
  const blocks: Buffer[] = [];
  const made = new PieceBlocks((block) => blocks.push(block));
  for (const piece of pieces) made.add(piece);
  made.end();
  return blocks;
}

describe('pieces of a byte each', () => {
  it('come out in blocks, the same bytes', () => {
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => at & 0xff));
    const blocks = blocksOf([...bytes].map((byte) => Buffer.from([byte])));
    expect(blocks.length).toBe(Math.ceil(100_000 / 16_384));
    expect(Buffer.concat(blocks).equals(bytes)).toBe(true);
  });
});

it('pieces of any size come out in order', () => {
  const random = seededRandom(7);
  const pieces = Array.from({ length: 300 }, () => {
    const size = random.pick([0, 1, 50, 4095, 4096, 16_384, 70_000]);
    return Buffer.alloc(size, random.integer(0, 255));
  });
  expect(Buffer.concat(blocksOf(pieces)).equals(Buffer.concat(pieces))).toBe(true);
  expect(blocksOf([])).toEqual([]);
});
