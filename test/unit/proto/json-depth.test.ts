/** proto/json-depth.ts: brackets, and what only looks like one. */
import { expect, it } from 'vitest';
import { jsonDepth } from '../../../proto/json-depth.js';

it.each([
  ['1', 0],
  ['"[[["', 0],
  ['[]', 1],
  ['{"a":[1,[2],3],"b":{}}', 3],
  ['["\\"[[[[",[1]]', 2],
  ['["\\\\",[[]]]', 3],
  ['[[],[],[[]],[]]', 3],
])('of %s is %i', (text, depth) => {
  JSON.parse(text);
  expect(jsonDepth(text)).toBe(depth);
});

it('has no stack', () => {
  expect(jsonDepth('['.repeat(1_000_000) + ']'.repeat(1_000_000))).toBe(1_000_000);
});
