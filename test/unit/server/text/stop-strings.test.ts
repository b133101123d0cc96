/** server/text/stop-strings.ts: nothing of a stop string leaks, nothing else is held back. */
import { describe, expect, it } from 'vitest';
import { StopStrings } from '../../../../server/text/stop-strings.js';
import { seededRandom } from './fixtures.js';

/** Everything that comes out, and whether a stop string ended it. */
function run(pieces: readonly string[], strings: readonly string[], include = false) {
  const stops = new StopStrings(strings, include);
  const sent: string[] = [];
  for (const piece of pieces) {
    const { text, stopped } = stops.push(piece);
    sent.push(text);
    if (stopped) return { sent, text: sent.join(''), stopped };
  }
  sent.push(stops.flush());
  return { sent, text: sent.join(''), stopped: false };
}

describe('StopStrings', () => {
  it('passes everything at once when there is nothing to stop at', () => {
    expect(run(['a', 'b'], []).sent).toEqual(['a', 'b', '']);
    expect(run(['a', 'b'], ['']).sent).toEqual(['a', 'b', '']);
  });

  it('ends before a stop string that spans pieces and lets none of it out', () => {
    expect(run(['Hello EN', 'D', ' OF', ' STORY'], ['END OF'])).toEqual({
      sent: ['Hello ', '', ''],
      text: 'Hello ',
      stopped: true,
    });
  });

  it('includes the stop string, and nothing after it, when asked to', () => {
    expect(run(['a\n', '\nb'], ['\n\n'], true).text).toBe('a\n\n');
  });

  it('holds back only the longest end that may still become a stop string', () => {
    expect(run(['xaab', 'c'], ['aabaa']).sent).toEqual(['x', 'aabc', '']);
    expect(run(['aabaab', 'x'], ['aabaac']).sent).toEqual(['aab', 'aabx', '']);
  });

  it('gives out at the end what never became a stop string', () => {
    expect(run(['one <', '/'], ['</s>'])).toEqual({
      sent: ['one ', '', '</'],
      text: 'one </',
      stopped: false,
    });
  });

  it('stops at the string that is complete first, not at the one that starts first', () => {
    expect(run(['abcdef'], ['abcde', 'cd']).text).toBe('ab');
    expect(run(['abcdef'], ['bcd', 'cd', 'd']).text).toBe('a');
  });

  it.each([1, 2, 3, 4])('gives the same whatever the pieces are (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const letters = () => 'ab'[Math.floor(random() * 2)]!;
    for (let round = 0; round < 400; round += 1) {
      const text = Array.from({ length: Math.floor(random() * 30) }, letters).join('');
      const strings = Array.from({ length: 1 + Math.floor(random() * 3) }, () =>
        Array.from({ length: 1 + Math.floor(random() * 5) }, letters).join(''),
      );
      const pieces: string[] = [];
      for (let at = 0; at < text.length; ) {
        const units = 1 + Math.floor(random() * 4);
        pieces.push(text.slice(at, at + units));
        at += units;
      }
      const include = random() < 0.5;
      const expected = run([...text], strings, include);
      const got = run(pieces, strings, include);
      const message = `seed ${seed}: ${JSON.stringify({ text, strings, pieces, include })}`;
      expect({ text: got.text, stopped: got.stopped }, message).toEqual({
        text: expected.text,
        stopped: expected.stopped,
      });
      expect(text.startsWith(got.text), message).toBe(true);
      if (!include) for (const stop of strings) expect(got.text.includes(stop), message).toBe(false);
    }
  });
});
