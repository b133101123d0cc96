/**
 * Runs in every test process.
 *
 * In      NODE_V8_COVERAGE: a process writes its coverage before vitest ends it, which Node would otherwise only do on an ordinary exit
 * Out     toEqual of typed arrays that have the same bytes is decided by these bytes: element by element it takes a microsecond for
 *         each, which was a sixth of some files' time. Arrays of other bytes are compared as ever (a NaN equals any other), and told so
 */
import { takeCoverage } from 'node:v8';
import { afterAll, expect } from 'vitest';

if (process.env.NODE_V8_COVERAGE) afterAll(() => takeCoverage());

const bytesOf = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const areSame = (a, b) =>
  ArrayBuffer.isView(a) &&
  ArrayBuffer.isView(b) &&
  a.constructor === b.constructor &&
  bytesOf(a).equals(bytesOf(b));

// Once a process: files that share one share its testers, and each tester is asked about every pair of values.
const IS_SET_UP = Symbol.for('shardserve.test.set-up');
if (!globalThis[IS_SET_UP]) {
  globalThis[IS_SET_UP] = true;
  expect.addEqualityTesters([(a, b) => (areSame(a, b) ? true : undefined)]);
}
