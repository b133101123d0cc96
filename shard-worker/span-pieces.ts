/**
 * A span cut where its text's pieces end (manifest: attendOp.piece).
 *
 * In      Span, tokens of a piece; null: texts are not cut
 * Out     spans that lie in one piece each, in order
 * Pure
 */
import type { Span } from './span.js';

export function spanPieces(span: Span, piece: number | null): Span[] {
  if (piece === null) return [span];
  const spans: Span[] = [];
  for (let done = 0; done < span.count; ) {
    const position = span.position + done;
    const count = Math.min(span.count - done, piece - (position % piece));
    spans.push({ ...span, offset: span.offset + done, position, count });
    done += count;
  }
  return spans;
}

/** Position that the piece of a token begins at. */
export const pieceStart = (position: number, piece: number | null): number =>
  piece === null ? 0 : position - (position % piece);
