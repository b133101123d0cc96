/**
 * Panels by the library of our own kernels (`ss_quantise`): the bytes of referencePacker, many times faster.
 *
 * In      as PanelPacker; the library's path (proto/kernel-library.ts)
 * Out     `nativePacker()`: null where this machine has no library
 * Errors  as PanelPacker: what the library refuses is named by the readable one
 */
import assert from 'node:assert/strict';
import koffi from 'koffi';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { type PanelPacker, referencePacker } from './panel-packer.js';
import { PANEL_OUTPUTS, panelBytes } from './panels.js';

/** Of kernels.h. */
const ABI_VERSION = 1;
const FLOAT32 = 0;
const ZERO = 1;
const BFLOAT = 2;
const SEARCH = 4;
const BAD_NUMBER = 5;

type Quantise = (
  ...args: readonly [...(readonly unknown[]), Uint8Array, number, number, BigInt64Array]
) => number;

/** A collected library handle unloads the library under its own function pointers. */
const keepAlive: unknown[] = [];
let loaded: PanelPacker | null | undefined;

/** Loaded once a process. */
export function nativePacker(): PanelPacker | null {
  if (loaded === undefined) loaded = open(kernelLibrary());
  return loaded;
}

function open(file: string | null): PanelPacker | null {
  if (file === null) return null;
  const library = koffi.load(file);
  keepAlive.push(library);
  const version = library.func('int32_t ss_abi_version()') as () => number;
  if (version() !== ABI_VERSION) return null;
  const quantise = library.func('ss_quantise', 'int32_t', [
    ...['const float *', 'int32_t', 'int64_t', 'int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t'],
    ...['const float *', 'uint8_t *', 'int64_t', 'int64_t', 'int64_t *'],
  ]) as Quantise;
  return packerOf(quantise);
}

function packerOf(quantise: Quantise): PanelPacker {
  const bad = new BigInt64Array(1);
  return {
    pack(rows, format, panels, inputs, placeOf, importance) {
      const { bfloat, bits, blockSize, zero } = panels;
      const readable = (): Uint8Array =>
        referencePacker.pack(rows, format, panels, inputs, placeOf, importance);
      const panel = new Uint8Array(panelBytes(panels, inputs));
      const flags = (zero ? ZERO : 0) | (bfloat ? BFLOAT : 0) | (format?.search ? SEARCH : 0);
      const sizes = [FLOAT32, inputs, PANEL_OUTPUTS, inputs, bits, blockSize, flags];
      const status = quantise(rows, ...sizes, importance, panel, 0, 1, bad);
      // Its message is the readable one's.
      if (status === BAD_NUMBER) return readable();
      assert.equal(status, 0, 'ss_quantise');
      return panel;
    },
  };
}
