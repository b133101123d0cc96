/** Bodies by who reads them. */
import type { ContentPart } from '../../requests/invoke-request.js';

export const NPY_TYPES = ['tensor/npy', 'application/x-npy'];
export const NPZ_TYPES = ['tensor/npz', 'application/x-npz'];

/** One that its model reads by itself. */
export class ContentBody {
  readonly parts: readonly ContentPart[];

  constructor(parts: readonly ContentPart[]) {
    this.parts = parts;
  }
}

/** One that is tensors' JSON, whatever its keys: its model takes nothing else. */
export class TensorBody {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }
}

/** One in NumPy's format, whatever its model makes of it. */
export class NumpyBody {
  readonly bytes: Buffer;
  readonly isArchive: boolean;
  /** What an archive may unpack to: what a body may have that is none. */
  readonly maxBytes: number;

  private constructor(bytes: Buffer, isArchive: boolean, maxBytes: number) {
    this.bytes = bytes;
    this.isArchive = isArchive;
    this.maxBytes = maxBytes;
  }

  /** @param maxBytes the limit of a body. @returns null: it is none */
  static of(contentType: string, bytes: Buffer, maxBytes: number): NumpyBody | null {
    const isArchive = NPZ_TYPES.includes(contentType);
    return isArchive || NPY_TYPES.includes(contentType) ? new NumpyBody(bytes, isArchive, maxBytes) : null;
  }
}
