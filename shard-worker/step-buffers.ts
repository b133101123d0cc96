/**
 * The manifest's buffers on one rank: memory that segments read and write, and what this process sees of it.
 *
 * In      the manifest's buffers; the collective, which gives memory for partial sums and sums
 * Out     a tensor handle a buffer for a step's (tokens, rows); host views of what the worker itself writes or reads
 * Limits  maxStepTokens tokens, maxRows rows
 * Errors  assertions: names come from the manifest
 *
 * On a host device the memory is the process's own, and `send` and `fetch` do nothing. On a remote one only what crosses has a host
 * array, and crosses when it is told to (remote-step-buffers.ts).
 */
import assert from 'node:assert/strict';
import type { Manifest, ManifestBuffer } from '../proto/manifest.js';
import type { Activations } from './attention.js';
import type { Collective, CollectiveTag } from './collective/collective.js';
import type { HostDevice, HostMemory, TensorHandle } from './device/device.js';
import type { TokenBuffer } from './step-memory.js';

export interface StepBuffersOptions<D> {
  device: D;
  manifest: Pick<Manifest, 'buffers' | 'io' | 'program'>;
  collective: Pick<Collective, 'allocate' | 'allReduce' | 'onDevice'>;
  maxStepTokens: number;
  maxRows: number;
}

export interface StepBuffers {
  spec(name: string): ManifestBuffer;
  /** What this process sees of a buffer that it writes or reads. */
  float32(name: string): Float32Array;
  int64(name: string): BigInt64Array;
  /** Handles of all buffers that have a row in such a step. */
  tensors(tokens: number, rows: number): Map<string, TensorHandle>;
  /** The first `first` rows of a buffer go to the device. */
  send(name: string, first: number): void;
  /** The first `first` rows of a buffer come from the device. */
  fetch(name: string, first: number): void;
  /** The first `first` rows of buffer `sum` become the sum over all ranks of those of `partial`. @throws CollectiveError */
  addRanks(tag: CollectiveTag, partial: string, sum: string, first: number): void | Promise<void>;
  /** Before `fetch`, where sums were added on devices: a promise that those are done. @throws CollectiveError */
  settle(): void | Promise<void>;
  /** Host memory that grows with a step's tokens. */
  tokenBuffers(): TokenBuffer[];
}

/** Rows of a buffer in a step of so many tokens and rows. */
export const rowsOf = ({ first }: ManifestBuffer, tokens: number, rows: number): number =>
  ({ tokens, rows, one: 1 })[first];

/** The shape in which a graph sees `first` rows of a buffer. */
export const dimsOf = ({ columns, shape }: ManifestBuffer, first: number): number[] =>
  ({ rank1: [first], rank2: [first, columns], rank3: [1, first, columns], row: [1, first] })[shape];

interface Buffer {
  spec: ManifestBuffer;
  /** null: `host` is the collective's. */
  memory: HostMemory | null;
  host: Float32Array | BigInt64Array;
}

export class HostStepBuffers implements StepBuffers {
  readonly #device: HostDevice;
  readonly #collective: StepBuffersOptions<HostDevice>['collective'];
  readonly #buffers = new Map<string, Buffer>();

  constructor(options: StepBuffersOptions<HostDevice>) {
    this.#device = options.device;
    this.#collective = options.collective;
    for (const spec of options.manifest.buffers) this.#buffers.set(spec.name, allocate(spec, options));
  }

  spec(name: string): ManifestBuffer {
    return this.#buffer(name).spec;
  }

  float32(name: string): Float32Array {
    return this.#buffer(name).host as Float32Array;
  }

  int64(name: string): BigInt64Array {
    return this.#buffer(name).host as BigInt64Array;
  }

  /** Memory that attention views at any row. */
  activations(name: string): Activations {
    const { memory, spec } = this.#buffer(name);
    assert(memory);
    return { memory, columns: spec.columns };
  }

  tensors(tokens: number, rows: number): Map<string, TensorHandle> {
    const tensors = new Map<string, TensorHandle>();
    for (const [name, { spec, memory, host }] of this.#buffers) {
      const first = rowsOf(spec, tokens, rows);
      if (first === 0) continue;
      const dims = dimsOf(spec, first);
      const tensor = memory
        ? this.#device.tensor(memory, 0, spec.type, dims)
        : this.#device.hostTensor(host, first * spec.columns, dims);
      tensors.set(name, tensor);
    }
    return tensors;
  }

  send(): void {}

  fetch(): void {}

  addRanks(tag: CollectiveTag, partial: string, sum: string, first: number): void | Promise<void> {
    const floats = first * this.spec(partial).columns;
    return this.#collective.allReduce(tag, this.float32(partial), this.float32(sum), floats);
  }

  settle(): void {}

  tokenBuffers(): TokenBuffer[] {
    return [...this.#buffers.values()]
      .filter(({ spec }) => spec.first === 'tokens')
      .map(({ host, memory, spec }) => ({ host, memory, rowBytes: spec.columns * host.BYTES_PER_ELEMENT }));
  }

  #buffer(name: string): Buffer {
    const buffer = this.#buffers.get(name);
    assert(buffer, `buffer ${name}`);
    return buffer;
  }
}

function allocate(spec: ManifestBuffer, options: StepBuffersOptions<HostDevice>): Buffer {
  const { collective, device, maxRows, maxStepTokens } = options;
  const length = rowsOf(spec, maxStepTokens, maxRows) * spec.columns;
  if (spec.place !== 'worker') {
    assert.equal(spec.type, 'float32');
    return { spec, memory: null, host: collective.allocate(spec.name, spec.place, length) };
  }
  const memory = device.reserve(length * (spec.type === 'float32' ? 4 : 8));
  const host = spec.type === 'float32' ? memory.float32(0, length) : memory.bigInt64(0, length);
  return { spec, memory, host };
}
