/** shard-worker/device/integer-products.ts: which processors multiply 8-bit integers exactly. */
import { expect, it } from 'vitest';
import { hasIntegerProducts } from '../../../../shard-worker/device/integer-products.js';

const cpuInfo = (flags: string): string =>
  `processor\t: 0\nmodel name\t: some\nflags\t\t: fpu ${flags}\nbugs\t\t:\n`;

it.each([
  ['x64', 'avx2 avx512f avx512_vnni md_clear', true],
  ['x64', 'avx2 avx_vnni', true],
  ['x64', 'avx2 amx_tile amx_int8', true],
  // Products are added in 16 bits there.
  ['x64', 'avx2 avx512f avx512bw', false],
  ['x64', 'avx2 avx512_vnni_of_another_name', false],
])('%s with %s: %s', (architecture, flags, expected) => {
  expect(hasIntegerProducts(architecture, cpuInfo(flags))).toBe(expected);
});

it('takes arm64 as it is, and x64 without a word for one without', () => {
  expect(hasIntegerProducts('arm64', '')).toBe(true);
  expect(hasIntegerProducts('x64', '')).toBe(false);
});
