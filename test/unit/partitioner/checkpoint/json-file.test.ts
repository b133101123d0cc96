/** partitioner/checkpoint/json-file.ts: what JSON.parse would let through. */
import { describe, expect, it } from 'vitest';
import { findRepeatedKey, parseJsonObject } from '../../../../partitioner/checkpoint/json-file.js';

describe('parseJsonObject', () => {
  it.each([
    ['[1]', 'not a JSON object'],
    ['null', 'not a JSON object'],
    ['"text"', 'not a JSON object'],
    ['{"a":1', 'not JSON'],
    ['', 'not JSON'],
    ['{"a":NaN}', 'not JSON'],
    ['{"a":1,"a":2}', 'the key a occurs twice'],
    [`{"a":${'['.repeat(128)}${']'.repeat(128)}}`, 'is nested 129 deep, the limit is 128'],
  ])('refuses %s and names the file', (text, message) => {
    expect(() => parseJsonObject(Buffer.from(text), 'm/x.json')).toThrow(`m/x.json: ${message}`);
  });

  it('refuses a depth that no reader of the result has the stack for', () => {
    const text = `{"a":${'[['.repeat(50_000)}${']]'.repeat(50_000)}}`;
    expect(() => parseJsonObject(Buffer.from(text), 'x.json')).toThrow('x.json: is nested 100001 deep');
  });

  it('refuses bytes that are not UTF-8', () => {
    expect(() => parseJsonObject(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), 'x.json')).toThrow(
      'x.json: not UTF-8',
    );
  });

  it('keeps a key named __proto__ as a plain key', () => {
    const object = parseJsonObject(Buffer.from('{"__proto__":{"a":1}}'), 'x.json');
    expect(Object.keys(object)).toEqual(['__proto__']);
    expect(object).not.toHaveProperty('a');
  });
});

describe('findRepeatedKey', () => {
  it.each([
    ['{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}', null],
    ['{"a":"a","b":"a:","c":"{\\"a\\":1}"}', null],
    ['{"a":{"x":1},"b":{"x":1, "y":2,\n"x" :3}}', 'x'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['{"q\\"":1,"q\\"":2}', 'q"'],
    ['{"end\\\\":1,"a":2,"a":3}', 'a'],
    ['{"a":[],"b":[[{}]],"a":0}', 'a'],
  ])('in %s finds %s', (text, expected) => {
    JSON.parse(text);
    expect(findRepeatedKey(text)).toBe(expected);
  });

  it('reads a string of megabytes without recursion', () => {
    expect(findRepeatedKey(`{"a":"${'x\\n'.repeat(2_000_000)}","b":1,"b":2}`)).toBe('b');
  });
});
