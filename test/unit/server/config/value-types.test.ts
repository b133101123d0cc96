/** The small parsers of values: what they take, what they refuse, and the words they say. */
import { describe, expect, it } from 'vitest';
import {
  boolean,
  byteSize,
  choice,
  errorRate,
  folder,
  integer,
  listenAddress,
  modelList,
  orWord,
  pattern,
  template,
  type ValueType,
} from '../../../../server/config/value-types.js';

const parsed = <T>(type: ValueType<T>, text: string): unknown => {
  const outcome = type.parse(text, '/base');
  return 'problem' in outcome ? `refused${outcome.sentence ? `: ${outcome.sentence}` : ''}` : outcome.value;
};

describe('value types', () => {
  it('integer takes both bounds and no fraction, exponent, hex, blank or empty text', () => {
    const type = integer(-2, 64, 'ms');
    expect(['-2', '64', '+7', '007'].map((text) => parsed(type, text))).toEqual([-2, 64, 7, 7]);
    const bad = ['-3', '65', '1.5', '1e1', '0x10', '', ' 1', 'NaN', '1234567890123456'];
    expect(bad.map((text) => parsed(type, text))).toEqual(bad.map(() => 'refused'));
    expect(type.expects).toBe('a whole number from -2 to 64 ms');
  });

  it('orWord takes the word whatever its case, and leaves the rest to the type', () => {
    const type = orWord(integer(1, 64), { max: 'max' as const });
    expect(['MAX', '4', '65'].map((text) => parsed(type, text))).toEqual(['max', 4, 'refused']);
    expect(parsed(type, 'constructor')).toBe('refused');
  });

  it('boolean takes true and false only', () => {
    expect(['true', 'FALSE', '1', 'yes', ''].map((text) => parsed(boolean(), text))).toEqual([
      true,
      false,
      'refused',
      'refused',
      'refused',
    ]);
  });

  it('choice refuses a known word with its sentence and any other with the list or its own sentence', () => {
    const type = choice<number>({
      one: { value: 1 },
      two: { value: 2, warning: 'w' },
      three: { refused: 'not three' },
    });
    expect(['ONE', 'three', 'four'].map((text) => parsed(type, text))).toEqual([
      1,
      'refused: not three',
      'refused',
    ]);
    expect(type.parse('two', '/')).toEqual({ value: 2, warning: 'w' });
    expect(type.expects).toBe('one of one, two');
    expect(parsed(choice<number>({}, 'never'), 'x')).toBe('refused: never');
  });

  it('listenAddress takes http and unix, the default port 80, port 0, and IPv6 in brackets', () => {
    const type = listenAddress();
    const tcp = (host: string, port: number): unknown => ({ kind: 'tcp', host, port, path: '' });
    expect(parsed(type, 'http://127.0.0.1:8080')).toEqual(tcp('127.0.0.1', 8080));
    expect(parsed(type, 'http://example.org')).toEqual(tcp('example.org', 80));
    expect(parsed(type, 'http://0.0.0.0:0/')).toEqual(tcp('0.0.0.0', 0));
    expect(parsed(type, 'http://[::1]:8080')).toEqual(tcp('::1', 8080));
    expect(parsed(type, 'unix:/run/x.sock')).toEqual({
      kind: 'unix',
      host: '',
      port: 0,
      path: '/run/x.sock',
    });
  });

  it.each([
    '127.0.0.1:8080',
    'http://h:65536',
    'http://h:-1',
    'http://:80',
    'unix:x',
    'ftp://h',
    '',
    'http://h:1/x',
  ])('listenAddress refuses %j', (text) => {
    expect(parsed(listenAddress(), text)).toBe('refused');
  });

  it('listenAddress takes https, whose port is 443 unless it is named', () => {
    expect(parsed(listenAddress(), 'https://h')).toEqual({
      ...{ kind: 'tcp', host: 'h', port: 443, path: '', tls: true },
    });
  });

  it('modelList takes ALL and NONE whatever their case, and divides by commas and white space', () => {
    expect(parsed(modelList(), 'all')).toBe('ALL');
    expect(parsed(modelList(), ' None ')).toBe('NONE');
    expect(parsed(modelList(), 'a=/x, /y  b:1=/z')).toEqual(['a=/x', '/y', 'b:1=/z']);
    expect(parsed(modelList(), ' , ')).toBe('refused');
  });

  it('folder starts at the folder of the file that names it', () => {
    expect(parsed(folder(), 'models')).toBe('/base/models');
    expect(parsed(folder(), '/abs')).toBe('/abs');
    expect(parsed(folder(), '')).toBe('refused');
  });

  it('pattern matches the whole text', () => {
    expect(parsed(pattern(/^[a-z]+$/, 'letters'), 'ab')).toBe('ab');
    expect(parsed(pattern(/^[a-z]+$/, 'letters'), 'a b')).toBe('refused');
  });

  it('template takes Jinja text as it is and says when there is no such file', () => {
    expect(parsed(template(), '{{ messages }}')).toBe('{{ messages }}');
    expect(parsed(template(), '')).toBeNull();
    expect(parsed(template(), 'missing.jinja')).toMatch(/no file \/base\/missing\.jinja/);
  });

  it.each([
    ['10', { count: 10, windowMs: 60_000 }],
    ['1/PT5M', { count: 1, windowMs: 300_000 }],
    ['3/P1DT2H3M4.5S', { count: 3, windowMs: 93_784_500 }],
    ['2/pt30s', { count: 2, windowMs: 30_000 }],
    ['0', 'refused'],
    ['1/5M', 'refused'],
    ['1/P', 'refused'],
    ['1/PT', 'refused'],
    ['1/PT0S', 'refused'],
    ['-1/PT1S', 'refused'],
    ['1000001', 'refused'],
  ])('errorRate reads %s', (given, expected) => {
    expect(parsed(errorRate(), given)).toEqual(expected);
  });

  it('byteSize counts in its unit and gives bytes', () => {
    expect(parsed(byteSize(1, 4, 'MiB', 1024), '3')).toBe(3072);
    expect(parsed(byteSize(1, 4, 'MiB', 1024), '5')).toBe('refused');
  });
});
