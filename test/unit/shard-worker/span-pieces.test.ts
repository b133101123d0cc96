import { expect, it } from 'vitest';
import type { Span } from '../../../shard-worker/span.js';
import { pieceStart, spanPieces } from '../../../shard-worker/span-pieces.js';

const span = (position: number, count: number): Span =>
  ({ sequence: { slot: 3 }, offset: 10, position, count, outputRows: 1 }) as unknown as Span;

it('a span is cut where pieces of the text end, its packed place with it', () => {
  const parts = spanPieces(span(5, 12), 8).map(({ count, offset, position }) => [position, offset, count]);
  expect(parts).toEqual([
    [5, 10, 3],
    [8, 13, 8],
    [16, 21, 1],
  ]);
});

it('a span within a piece, or of a text that is not cut, stays whole', () => {
  expect(spanPieces(span(8, 8), 8)).toEqual([span(8, 8)]);
  expect(spanPieces(span(5, 12), null)).toEqual([span(5, 12)]);
});

it('a token sees from the beginning of its piece on', () => {
  expect([7, 8, 15, 16].map((position) => pieceStart(position, 8))).toEqual([0, 8, 8, 16]);
  expect(pieceStart(100, null)).toBe(0);
});
