/**
 * Memory outside the JavaScript heap whose address is known and never moves: what ONNX Runtime reads and writes.
 *
 * Reserved, not committed: a page costs memory only once it was touched.
 */
import assert from 'node:assert/strict';
import koffi from 'koffi';
import { discard, PAGE_BYTES, reserve, unmap, wholePages } from './libc.js';

/** Largest ArrayBuffer of Node 20. */
const MAX_VIEW_BYTES = 2 ** 32 - 1;

export class NativeMemory {
  readonly address: number;
  readonly bytes: number;

  constructor(bytes: number) {
    this.bytes = Math.max(PAGE_BYTES, wholePages(bytes));
    this.address = reserve(this.bytes);
  }

  /** A view, made anew with each call: keep it. */
  float32(byteOffset: number, length: number): Float32Array {
    return new Float32Array(this.view(byteOffset, length * 4));
  }

  /** A view, made anew with each call: keep it. */
  bigInt64(byteOffset: number, length: number): BigInt64Array {
    return new BigInt64Array(this.view(byteOffset, length * 8));
  }

  /** Only the range asked for: the engine's buffers end at 4 GiB, and a slot of a long context does not. */
  view(byteOffset: number, bytes: number): ArrayBuffer {
    assert(byteOffset >= 0 && byteOffset + bytes <= this.bytes, 'view outside its memory');
    assert(bytes <= MAX_VIEW_BYTES, `view of ${bytes} bytes; the limit is ${MAX_VIEW_BYTES}`);
    return koffi.view(BigInt(this.address + byteOffset), bytes);
  }

  /** Give the whole pages inside the range back to the system; they read as zeros again. */
  discard(byteOffset: number, bytes: number): void {
    const start = wholePages(byteOffset);
    const end = Math.floor((byteOffset + bytes) / PAGE_BYTES) * PAGE_BYTES;
    if (end > start) discard(this.address + start, end - start);
  }

  /** Unmap. Any view of it is dead afterwards: touching one is a segmentation fault. */
  free(): void {
    unmap(this.address, this.bytes);
  }
}

/** Bump allocator for small things that live as long as the process: names, pointer arrays. */
export class NativeArena {
  #memory: NativeMemory;
  #buffer: ArrayBuffer;
  #used = 0;
  readonly #chunkBytes: number;

  constructor(chunkBytes = 1024 * 1024) {
    this.#chunkBytes = chunkBytes;
    this.#memory = new NativeMemory(chunkBytes);
    this.#buffer = this.#memory.view(0, this.#memory.bytes);
  }

  /** `bytes` of zeros, 16-byte aligned. */
  allocate(bytes: number): { address: number; view: DataView } {
    const size = Math.ceil(bytes / 16) * 16;
    if (this.#used + size > this.#memory.bytes) {
      this.#memory = new NativeMemory(Math.max(this.#chunkBytes, size));
      this.#buffer = this.#memory.view(0, this.#memory.bytes);
      this.#used = 0;
    }
    const offset = this.#used;
    this.#used += size;
    return { address: this.#memory.address + offset, view: new DataView(this.#buffer, offset, size) };
  }

  /** A C string; returns its address. */
  text(value: string): number {
    const bytes = new TextEncoder().encode(value);
    const { address, view } = this.allocate(bytes.length + 1);
    bytes.forEach((byte, index) => {
      view.setUint8(index, byte);
    });
    return address;
  }

  /** An array of pointers. */
  pointers(count: number): PointerArray {
    const { address, view } = this.allocate(Math.max(1, count) * 8);
    return new PointerArray(address, view, count);
  }
}

/** `void *[count]` in native memory. */
export class PointerArray {
  readonly address: number;
  readonly count: number;
  readonly #view: DataView;

  constructor(address: number, view: DataView, count: number) {
    this.address = address;
    this.count = count;
    this.#view = view;
  }

  set(index: number, pointer: number): void {
    // Two halves: a BigInt a pointer would be garbage on the hot path.
    this.#view.setUint32(index * 8, pointer >>> 0, true);
    this.#view.setUint32(index * 8 + 4, Math.floor(pointer / 0x1_0000_0000), true);
  }
}
