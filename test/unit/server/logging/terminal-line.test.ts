/** Log events as a person reads them. */
import { describe, expect, it } from 'vitest';
import { terminalLine } from '../../../../server/logging/terminal-line.js';

const line = (event: object, isColoured = false) =>
  terminalLine(
    JSON.stringify({ level: 30, time: Date.now(), pid: 7, hostname: 'h', msg: 'm', ...event }),
    isColoured,
  ).replace(/^\d\d:\d\d:\d\d /, '');

describe('a line on a terminal', () => {
  it('has the level, the message and the fields, and nothing that is the same in every line', () => {
    expect(line({ msg: 'access', status: 200, uri: '/ping', key: { a: 1 } })).toBe(
      'INFO  access  status=200  uri=/ping  key={"a":1}\n',
    );
    expect(line({ level: 40, big: 'x'.repeat(200) })).toBe(`WARN  m  big=${'x'.repeat(120)}…\n`);
  });

  it('is one line, and moves no cursor, whatever a client calls its request', () => {
    const forged = 'a\n12:00:00 INFO  all is well\u001b[2J\u009b31m\u202e';
    const codes = 'a\\u000a12:00:00 INFO  all is well\\u001b[2J\\u009b31m\\u202e';
    expect(line({ msg: forged, id: forged })).toBe(`INFO  ${codes}  id=${codes}\n`);
    const err = { type: 'ServingError', message: forged };
    expect(line({ level: 50, err })).toBe(`ERROR m  ${codes}\n`);
  });

  it('tells an operating error by its sentence, once, and a bug with its stack', () => {
    const operating = {
      type: 'ServingError',
      code: 'OUT_OF_MEMORY',
      message: 'It does not fit',
      stack: 'at x',
    };
    expect(line({ level: 50, err: operating })).toBe('ERROR m  It does not fit\n');
    expect(line({ level: 50, msg: 'a could not be loaded: It does not fit', err: operating })).toBe(
      'ERROR a could not be loaded: It does not fit\n',
    );
    const chain = { ...operating, message: 'a://b: It does not fit: It does not: why' };
    expect(line({ level: 50, msg: 'a could not be loaded: a://b: It does not fit', err: chain })).toBe(
      'ERROR a could not be loaded: a://b: It does not fit  why\n',
    );
    const bug = {
      type: 'TypeError',
      message: 'x is no function',
      stack: 'TypeError: x is no function\n    at y',
    };
    expect(line({ level: 50, err: bug })).toBe(
      'ERROR m  x is no function\nTypeError: x is no function\n    at y\n',
    );
  });

  it('is coloured where that is wanted, and only where it matters', () => {
    expect(line({ level: 50 }, true)).toBe('\u001b[31mERROR m\u001b[0m\n');
    expect(line({}, true)).toBe('INFO  m\n');
  });

  it('leaves what is no event as it is', () => {
    expect(terminalLine('text\n', true)).toBe('text\n');
  });
});
