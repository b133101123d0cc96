/** The kernels' C functions (shard-worker/kernels/kernels.h), for tests and benches. */
import assert from 'node:assert/strict';
import koffi, { type LibraryHandle } from 'koffi';
import { kernelLibrary } from '../../proto/kernel-library.js';
import type { PanelLinear } from './panels.js';

const ZERO = 1;
const BFLOAT = 2;
const WIDE = 8;

export interface KernelFunctions {
  /** Variants that this processor runs, the worst first. */
  readonly variants: readonly string[];
  /** Runs `work` with a variant, then with the best again. */
  withVariant<T>(name: string, work: () => T): T;
  /** y [rows, outputs], for the panels asked for; the others' outputs are left as `into` has them. */
  linear(
    linear: PanelLinear,
    rows: Float32Array,
    bias: Float32Array | null,
    part?: { first: number; end: number; into: Float32Array },
  ): Float32Array;
  readonly library: LibraryHandle;
}

export function kernelFunctions(file: string | null = kernelLibrary()): KernelFunctions {
  assert(file, 'this machine has no kernels');
  const library = koffi.load(file);
  const variantName = library.func('const char *ss_variant_name(int32_t)') as (
    index: number,
  ) => string | null;
  const stateOf = library.func('int32_t ss_variant_state(int32_t)') as (index: number) => number;
  const current = library.func('int32_t ss_variant()') as () => number;
  const use = library.func('int32_t ss_use_variant(int32_t)') as (index: number) => number;
  const linearOf = library.func('ss_linear', 'int32_t', [
    ...['const float *', 'int64_t', 'const uint8_t *', 'const float *', 'float *', 'int64_t'],
    ...['int64_t', 'int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t', 'int32_t', 'int64_t', 'int64_t'],
  ]) as (...args: readonly unknown[]) => number;
  const names: string[] = [];
  for (let index = 0; ; index++) {
    const name = variantName(index);
    if (name === null) break;
    names.push(name);
  }
  return {
    library,
    variants: names.filter((_, index) => stateOf(index) === 1),
    withVariant(name, work) {
      const before = current();
      assert.equal(use(names.indexOf(name)), 0, `variant ${name}`);
      try {
        return work();
      } finally {
        use(before);
      }
    },
    linear(linear, rows, bias, part) {
      const { inputs, outputs, bits, block, zero, bfloat, wide, pieces, panels } = linear;
      const count = rows.length / inputs;
      const y = part?.into ?? new Float32Array(count * outputs);
      const flags = (zero ? ZERO : 0) | (bfloat ? BFLOAT : 0) | (wide ? WIDE : 0);
      const [first, end] = [part?.first ?? 0, part?.end ?? Math.ceil(outputs / 32)];
      const size = [count, inputs, outputs, bits, block, flags, pieces, first, end];
      assert.equal(linearOf(rows, inputs, panels, bias, y, outputs, ...size), 0, 'ss_linear');
      return y;
    },
  };
}
