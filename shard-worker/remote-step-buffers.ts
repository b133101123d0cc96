/**
 * The manifest's buffers in the memory of a remote device (step-buffers.ts).
 *
 * What crosses, and nothing else: token ids, positions and wanted rows to the device; partial sums from it and sums to it; hidden states
 * to be pooled from it and pooled rows to it; logits, or vectors, of the wanted rows from it. Only these have a host array; partial sums
 * and sums have none where devices add without the host (collective.ts, onDevice).
 */
import assert from 'node:assert/strict';
import type { Manifest, ManifestBuffer } from '../proto/manifest.js';
import type { CollectiveTag } from './collective/collective.js';
import type { DeviceBuffer, RemoteDevice, TensorHandle } from './device/device.js';
import { dimsOf, rowsOf, type StepBuffers, type StepBuffersOptions } from './step-buffers.js';
import type { TokenBuffer } from './step-memory.js';

interface Buffer {
  spec: ManifestBuffer;
  memory: DeviceBuffer;
  /** null: nothing of it crosses. */
  host: Float32Array | BigInt64Array | null;
}

export class RemoteStepBuffers implements StepBuffers {
  readonly #device: RemoteDevice;
  readonly #collective: StepBuffersOptions<RemoteDevice>['collective'];
  readonly #buffers = new Map<string, Buffer>();

  constructor(options: StepBuffersOptions<RemoteDevice>) {
    const { collective, device, manifest, maxRows, maxStepTokens } = options;
    this.#device = device;
    this.#collective = collective;
    const crossing = crossingBuffers(manifest);
    for (const spec of manifest.buffers) {
      const length = rowsOf(spec, maxStepTokens, maxRows) * spec.columns;
      const memory = device.allocate(spec.type, length);
      let host: Buffer['host'] = null;
      if (spec.place !== 'worker') {
        if (collective.onDevice === undefined) host = collective.allocate(spec.name, spec.place, length);
      } else if (crossing.has(spec.name))
        host = spec.type === 'float32' ? new Float32Array(length) : new BigInt64Array(length);
      this.#buffers.set(spec.name, { spec, memory, host });
    }
  }

  spec(name: string): ManifestBuffer {
    return this.#buffer(name).spec;
  }

  float32(name: string): Float32Array {
    return this.#host(name) as Float32Array;
  }

  int64(name: string): BigInt64Array {
    return this.#host(name) as BigInt64Array;
  }

  /** Memory of the device, for attention. */
  memory(name: string): { memory: DeviceBuffer; columns: number } {
    const { memory, spec } = this.#buffer(name);
    return { memory, columns: spec.columns };
  }

  tensors(tokens: number, rows: number): Map<string, TensorHandle> {
    const tensors = new Map<string, TensorHandle>();
    for (const [name, { spec, memory }] of this.#buffers) {
      const first = rowsOf(spec, tokens, rows);
      if (first > 0) tensors.set(name, this.#device.tensor(memory, dimsOf(spec, first)));
    }
    return tensors;
  }

  send(name: string, first: number): void {
    const { memory, spec } = this.#buffer(name);
    this.#device.upload(memory, this.#host(name), first * spec.columns);
  }

  fetch(name: string, first: number): void {
    const { memory, spec } = this.#buffer(name);
    this.#device.download(memory, this.#host(name), first * spec.columns);
  }

  addRanks(tag: CollectiveTag, partial: string, sum: string, first: number): void | Promise<void> {
    const { allReduce, onDevice } = this.#collective;
    const { memory, spec } = this.#buffer(partial);
    const floats = first * spec.columns;
    if (onDevice !== undefined) return onDevice.sumOnDevice(tag, memory, this.#buffer(sum).memory, floats);
    this.fetch(partial, first);
    const pending = allReduce.call(this.#collective, tag, this.float32(partial), this.float32(sum), floats);
    if (pending) return pending.then(() => this.send(sum, first));
    this.send(sum, first);
  }

  settle(): void | Promise<void> {
    return this.#collective.onDevice?.settle();
  }

  /** Only what the collective gave. */
  tokenBuffers(): TokenBuffer[] {
    return [...this.#buffers.values()].flatMap(({ host, spec }) =>
      host !== null && spec.place !== 'worker'
        ? [{ host, memory: null, rowBytes: spec.columns * host.BYTES_PER_ELEMENT }]
        : [],
    );
  }

  #host(name: string): Float32Array | BigInt64Array {
    const { host } = this.#buffer(name);
    assert(host, `buffer ${name} stays on the device`);
    return host;
  }

  #buffer(name: string): Buffer {
    const buffer = this.#buffers.get(name);
    assert(buffer, `buffer ${name}`);
    return buffer;
  }
}

function crossingBuffers({ io, program }: Pick<Manifest, 'io' | 'program'>): ReadonlySet<string> {
  const pooled = program.flatMap((op) => (op.op === 'pool' ? [op.hidden, op.pooled] : []));
  return new Set([...Object.values(io), ...pooled]);
}
