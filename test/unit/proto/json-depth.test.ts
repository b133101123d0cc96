/** proto/json-depth.ts: brackets, and what only looks like one. */
import { expect, it } from 'vitest';
import { jsonDepth, jsonShape, MAX_JSON_PARTS, tooDeepOrMany } from '../../../proto/json-depth.js';

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

it('counts objects, arrays and members, not what stands in texts', () => {
  expect(jsonShape('{"a:":[1,2,{"b":"[{:"}]}')).toEqual({ depth: 3, parts: 5 });
  expect(tooDeepOrMany(`[${'1,'.repeat(100_000)}1]`)).toBeNull();
  expect(tooDeepOrMany(`[${'{},'.repeat(MAX_JSON_PARTS)}1]`)).toBe(
    `made of ${MAX_JSON_PARTS + 1} objects, arrays and members, the limit is ${MAX_JSON_PARTS}`,
  );
});
