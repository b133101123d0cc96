/**
 * Which hosts a download may talk to, and at which addresses.
 *
 * In      a URL or an IP address
 * Out     allowed at any address, at public addresses only, or not at all
 * Pure    no name is resolved here: guarded-http.ts asks about every address it is about to connect to
 * Source  IANA special-purpose address registries for IPv4 and IPv6
 *
 * A URL is registered by a client of the management API, which must not become a way to reach what only this machine can
 * reach (metadata services, neighbours, loopback).
 */
import { BlockList, isIP } from 'node:net';

/** Whose addresses count: a host that the operator named may be anywhere, one that fits a pattern must be public. */
export type HostRule = 'any-address' | 'public-only' | 'refused';

/** IPv4 ranges that are not the public internet. */
const PRIVATE_IPV4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];

/** Parts of 2000::/3 that are not public, or carry an IPv4 address that might not be. */
const PRIVATE_IPV6: readonly (readonly [string, number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const privateIpv4 = new BlockList();
for (const [net, prefix] of PRIVATE_IPV4) privateIpv4.addSubnet(net, prefix, 'ipv4');
const globalIpv6 = new BlockList();
globalIpv6.addSubnet('2000::', 3, 'ipv6');
const privateIpv6 = new BlockList();
for (const [net, prefix] of PRIVATE_IPV6) privateIpv6.addSubnet(net, prefix, 'ipv6');

/** False for anything that is no address of the public internet; IPv4 inside IPv6 is never public. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !privateIpv4.check(address, 'ipv4');
    case 6:
      return globalIpv6.check(address, 'ipv6') && !privateIpv6.check(address, 'ipv6');
    default:
      return false;
  }
}

/** @param allowedHosts `name`, `name:port`, `*.name` or `*`; letter case does not matter */
export function hostRule(url: URL, allowedHosts: readonly string[]): HostRule {
  const host = url.hostname.toLowerCase().replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const allowed = allowedHosts.map((entry) => entry.toLowerCase());
  if (allowed.includes(host) || allowed.includes(`${host}:${port}`)) return 'any-address';
  const fits = (entry: string): boolean =>
    entry === '*' || (entry.startsWith('*.') && host.endsWith(entry.slice(1)) && host !== entry.slice(2));
  return allowed.some(fits) ? 'public-only' : 'refused';
}

/** The address a URL names itself, without the brackets of IPv6; null for a name. */
export function literalAddress(url: URL): string | null {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return isIP(host) === 0 ? null : host;
}
