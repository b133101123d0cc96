/**
 * Rows of a linear's parts for whoever packs them, a chunk after the other.
 *
 * In      a part, a range of its rows
 * Out     halves as they are stored, or floats
 * Limits  two chunks are there at a time: the memory of one is used again for the next but one
 * Errors  ServingError CHECKPOINT_INVALID from the source
 */
import type { Halves, TensorSource } from '../checkpoint/tensor-source.js';
import type { LinearPart } from '../plan/plan-item.js';
import { scaled } from './row-chunks.js';

export class ChunkReader {
  readonly #source: TensorSource;
  readonly #takesHalves: boolean;
  #memory: [ArrayBuffer, ArrayBuffer] = [new ArrayBuffer(0), new ArrayBuffer(0)];

  /** @param takesHalves whoever packs them */
  constructor(source: TensorSource, takesHalves: boolean) {
    this.#source = source;
    this.#takesHalves = takesHalves;
  }

  /** As they are stored, where that is in 16 bits and they are not multiplied; else floats. */
  read({ columns, factor, source: name }: LinearPart, start: number, end: number): Float32Array | Halves {
    const numbers = (end - start) * columns;
    // Once a chunk: the other is still being packed.
    const memory = this.#next(4 * numbers);
    if (this.#takesHalves && factor === 1) {
      const halves = this.#source.readHalves?.(name, start, end, new Uint16Array(memory, 0, numbers));
      if (halves) return halves;
    }
    const floats = new Float32Array(memory, 0, numbers);
    return scaled(this.#source.readFloat32(name, start, end, floats), factor);
  }

  /** The memory of the chunk before the last. */
  #next(bytes: number): ArrayBuffer {
    const [older, newer] = this.#memory;
    const memory = older.byteLength < bytes ? new ArrayBuffer(bytes) : older;
    this.#memory = [newer, memory];
    return memory;
  }
}
