/**
 * Memory for partials and sums, aligned for vector instructions and ready to be sent.
 *
 * Out     float32 memory whose first byte lies at a multiple of 64, with 64 bytes of the same memory right before it: room
 *         for a frame header, so that header and payload are one piece of memory and leave in one send without a copy
 * Limits  what one ArrayBuffer holds
 */
import koffi from 'koffi';

/** One cache line, and the widest vector register. */
export const ALIGNMENT_BYTES = 64;
/** The room before the payload. */
export const HEADER_BYTES = 64;

export interface AlignedMemory {
  /** The payload. */
  readonly floats: Float32Array<ArrayBuffer>;
  /** The 64 bytes before the payload, as 16 words. */
  readonly header: Int32Array<ArrayBuffer>;
}

/** Zeroed memory for `floats` values. Pages are touched when used (calloc), so a generous size costs address space only. */
export function allocateAligned(floats: number): AlignedMemory {
  // An ArrayBuffer made directly never lies inside V8's moving heap, so its address stays what it is.
  const buffer = new ArrayBuffer(ALIGNMENT_BYTES + HEADER_BYTES + floats * Float32Array.BYTES_PER_ELEMENT);
  const address = koffi.address(new Uint8Array(buffer));
  const skip = Number(
    (BigInt(ALIGNMENT_BYTES) - (address % BigInt(ALIGNMENT_BYTES))) % BigInt(ALIGNMENT_BYTES),
  );
  return {
    header: new Int32Array(buffer, skip, HEADER_BYTES / Int32Array.BYTES_PER_ELEMENT),
    floats: new Float32Array(buffer, skip + HEADER_BYTES, floats),
  };
}
