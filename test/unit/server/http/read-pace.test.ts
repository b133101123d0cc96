/** Slow readers: which are borne, and which only hold a place. */
import { expect, it } from 'vitest';
import { ReadPace } from '../../../../server/http/answers/read-pace.js';

/** Rounds until it is too slow, of a reader that takes so many bytes after so long each. */
function rounds(bytes: number, ms: number, most = 1000): number | null {
  const pace = new ReadPace(120_000);
  for (let round = 1; round <= most; round++) {
    pace.given(bytes);
    pace.waited(ms);
    if (pace.isTooSlow) return round;
  }
  return null;
}

it.each([
  ['16 KB every 119 s, which was never dropped', 16_384, 119_000, 2],
  ['a byte every second', 1, 1000, 121],
  ['1 KB a second, as over a bad telephone line', 1024, 1000, null],
  ['much at once after long pauses', 1_048_576, 110_000, null],
  ['one that is never waited for', 10, 0, null],
])('%s', (_, bytes, ms, dropped) => {
  expect(rounds(bytes, ms)).toBe(dropped);
});
