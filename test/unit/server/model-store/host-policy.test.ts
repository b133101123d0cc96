/** server/model-store/host-policy: allowed hosts and public addresses. */
import { describe, expect, it } from 'vitest';
import { hostRule, isPublicAddress, literalAddress } from '../../../../server/model-store/host-policy.js';

describe('a host', () => {
  it.each([
    ['https://a.example/x', ['a.example'], 'any-address'],
    ['https://A.Example./x', ['a.example'], 'any-address'],
    ['https://a.example:8443/x', ['a.example'], 'any-address'],
    ['https://a.example/x', ['A.EXAMPLE:443'], 'any-address'],
    ['http://a.example/x', ['a.example:443'], 'refused'],
    ['https://b.a.example/x', ['*.a.example'], 'public-only'],
    ['https://a.example/x', ['*.a.example'], 'refused'],
    ['https://evila.example/x', ['*.a.example', 'a.example'], 'refused'],
    ['https://a.example.evil/x', ['a.example'], 'refused'],
    ['https://a.example@evil.example/x', ['a.example'], 'refused'],
    ['https://evil.example\\@a.example/x', ['a.example'], 'refused'],
    ['https://b.example/x', ['*'], 'public-only'],
    ['https://b.example/x', [], 'refused'],
  ] as const)('%s under %j: %s', (url, allowed, rule) => {
    expect(hostRule(new URL(url), allowed)).toBe(rule);
  });

  it.each([
    ['http://0x7f.1/', '127.0.0.1'],
    ['http://2130706433/', '127.0.0.1'],
    ['http://[::1]/', '::1'],
    ['http://localhost/', null],
  ])('%s names the address %s', (url, address) => {
    expect(literalAddress(new URL(url))).toBe(address);
  });
});

describe('an address', () => {
  it.each(['8.8.8.8', '172.15.0.1', '172.32.0.1', '2606:4700::1111', '2a00::1'])(
    '%s is public',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it.each([
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '127.0.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:8.8.8.8',
    '::ffff:127.0.0.1',
    '64:ff9b::7f00:1',
    '2001:db8::1',
    '2002:7f00:1::',
    'fc00::1',
    'fe80::1',
    'ff02::1',
    'not an address',
  ])('%s is not', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});
