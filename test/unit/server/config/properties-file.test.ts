/** Java's .properties syntax. Expected values are what java.util.Properties.load gives, except for blanks at the end. */
import { describe, expect, it } from 'vitest';
import {
  MAX_FILE_BYTES,
  PropertiesSyntaxError,
  parseProperties,
} from '../../../../server/config/properties-file.js';

const pairs = (text: string): [string, string][] =>
  parseProperties(text).map(({ key, value }) => [key, value]);

describe('parseProperties', () => {
  it('divides key and value by =, : or blanks, the first of them only', () => {
    expect(pairs('a=1\nb:2\nc 3\nd = 4\ne\t:\t5\nf  = = 6\ng==7')).toEqual([
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
      ['d', '4'],
      ['e', '5'],
      ['f', '= 6'],
      ['g', '=7'],
    ]);
  });

  it('skips comments and empty lines, and keeps a # inside a value', () => {
    expect(pairs('# one\n  ! two\n\n   \nurl=http://x/#y\n')).toEqual([['url', 'http://x/#y']]);
  });

  it('takes a key without a value as empty', () => {
    expect(pairs('alone\nempty=\n')).toEqual([
      ['alone', ''],
      ['empty', ''],
    ]);
  });

  it('continues a line after a backslash, drops the blanks that follow, and keeps the first line number', () => {
    expect(parseProperties('x=1\nfruits=apple, \\\n    pear, \\\n\tplum\ny=2')).toEqual([
      { key: 'x', value: '1', line: 1 },
      { key: 'fruits', value: 'apple, pear, plum', line: 2 },
      { key: 'y', value: '2', line: 5 },
    ]);
  });

  it('does not continue after an escaped backslash, nor a comment', () => {
    expect(pairs('path=c:\\\\\nb=1\n# note \\\nc=2')).toEqual([
      ['path', 'c:\\'],
      ['b', '1'],
      ['c', '2'],
    ]);
  });

  it('continues into the end of the file', () => {
    expect(pairs('a=1\\')).toEqual([['a', '1']]);
  });

  it('decodes escapes in keys and values', () => {
    expect(pairs('a\\=b\\:c\\ d=\\t|\\n|\\u00e4|\\q|\\\\')).toEqual([['a=b:c d', '\t|\n|ä|q|\\']]);
  });

  it('reads CRLF, CR and a byte order mark', () => {
    expect(parseProperties('\uFEFFa=1\r\nb=2\rc=3')).toEqual([
      { key: 'a', value: '1', line: 1 },
      { key: 'b', value: '2', line: 2 },
      { key: 'c', value: '3', line: 3 },
    ]);
  });

  it('keeps a key that is given twice, in order', () => {
    expect(pairs('a=1\na=2')).toEqual([
      ['a', '1'],
      ['a', '2'],
    ]);
  });

  it.each([
    ['a=1\nb=\\u12', 2, /four hexadecimal/],
    ['=1', 1, /no key/],
    ['a='.padEnd(MAX_FILE_BYTES + 1, 'x'), 1, /at most 1048576/],
  ])('refuses a malformed file and names the line (%#)', (text, line, message) => {
    const parse = (): unknown => parseProperties(text);
    expect(parse).toThrow(message);
    try {
      parse();
    } catch (error) {
      expect(error).toBeInstanceOf(PropertiesSyntaxError);
      expect((error as PropertiesSyntaxError).line).toBe(line);
    }
  });
});
