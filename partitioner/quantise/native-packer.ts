/**
 * Panels by the library of our own kernels (`ss_quantise`): the bytes of referencePacker, many times faster.
 *
 * In      as PanelPacker; the library's path (proto/kernel-library.ts)
 * Out     `nativePacker()`: null where this machine has no library
 * How     panels wait for one of Node's own threads, of which so many work as there are cores
 * Limits  AT_ONCE panels are packed at a time; whoever asks bounds those that wait
 * Errors  as PanelPacker: what the library refuses is named by the readable one
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import koffi from 'koffi';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { floatsOf } from '../checkpoint/float-widening.js';
import { type PanelPacker, referencePacker, requireHeld } from './panel-packer.js';
import { PANEL_OUTPUTS, panelBytes } from './panels.js';

/** As in kernels.h. */
const ABI_VERSION = 3;
const FLOAT32 = 0;
const TYPES = { float16: 1, bfloat16: 2 } as const;
const ZERO = 1;
const BFLOAT = 2;
const SEARCH = 4;
const BAD_NUMBER = 5;

/** Node has four threads for such work. */
const AT_ONCE = Math.min(4, availableParallelism());

interface Quantise {
  (...args: unknown[]): number;
  async(...argsAndDone: unknown[]): void;
}

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
    ...['const void *', 'int32_t', 'int64_t', 'int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t'],
    ...['const float *', 'uint8_t *', 'int64_t', 'int64_t', 'int64_t *'],
  ]);
  // The first call looks at the processor, which two at once had better not.
  assert.equal(quantise(null, FLOAT32, 32, 32, 32, 8, 32, 0, null, null, 0, 0, null), 0, 'ss_quantise');
  return packerOf(quantise as Quantise);
}

function packerOf(quantise: Quantise): PanelPacker {
  const turns = new Turns(AT_ONCE);
  const packMany: PanelPacker['packMany'] = async (rows, format, panels, inputs, placeOf, importance) => {
    const { bfloat, bits, blockSize, zero } = panels;
    const { count, stride, values } = rows;
    const made = count / PANEL_OUTPUTS;
    const packed = new Uint8Array(made * panelBytes(panels, inputs));
    const flags = (zero ? ZERO : 0) | (bfloat ? BFLOAT : 0) | (format?.search ? SEARCH : 0);
    const isFloat32 = values instanceof Float32Array;
    const type = isFloat32 ? FLOAT32 : TYPES[values.type];
    const sizes = [type, stride, count, inputs, bits, blockSize, flags];
    const bad = new BigInt64Array(1);
    const status = await turns.run(
      () =>
        new Promise<number>((resolve, reject) => {
          quantise.async(
            isFloat32 ? values : values.values,
            ...sizes,
            importance,
            packed,
            0,
            made,
            bad,
            (error: unknown, code: number) => (error ? reject(error) : resolve(code)),
          );
        }),
    );
    if (status === BAD_NUMBER) {
      // Its message is the readable one's, of the row alone.
      const output = Math.floor(Number(bad[0]) / inputs);
      const row = new Float32Array(PANEL_OUTPUTS * inputs);
      row.set(floatsOf(values, output * stride, output * stride + inputs));
      const placeOfRow: typeof placeOf = () => placeOf(output);
      requireHeld(row, panels, inputs, placeOfRow);
      referencePacker.pack(row, format, panels, inputs, placeOfRow, importance);
    }
    assert.equal(status, 0, 'ss_quantise');
    return packed;
  };
  return {
    packMany,
    pack: (values, format, panels, inputs, placeOf, importance) =>
      packMany({ values, stride: inputs, count: PANEL_OUTPUTS }, format, panels, inputs, placeOf, importance),
  };
}

/** First come, first served, so many at a time. */
class Turns {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(free: number) {
    this.#free = free;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
