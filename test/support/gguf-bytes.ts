/**
 * Bytes of a GGUF file, written from the format's description and apart from what reads it.
 *
 * In      metadata (a number is a u32 where it is whole, else an f32), tensors of float32
 * Out     the file's bytes
 */
export type MetadataValue = number | boolean | string | readonly (number | string | boolean)[];

export interface FloatTensor {
  name: string;
  /** Outermost axis first. */
  shape: readonly number[];
  values: Float32Array;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
};

function typed(value: MetadataValue): { type: number; bytes: Buffer } {
  if (typeof value === 'string') return { type: 8, bytes: text(value) };
  if (typeof value === 'boolean') return { type: 7, bytes: Buffer.from([value ? 1 : 0]) };
  if (typeof value === 'number') {
    return Number.isInteger(value) ? { type: 4, bytes: u32(value) } : { type: 6, bytes: f32(value) };
  }
  const elements = value.map((one) => (typeof one === 'number' ? { type: 6, bytes: f32(one) } : typed(one)));
  const type = elements[0]?.type ?? 4;
  return {
    type: 9,
    bytes: Buffer.concat([u32(type), u64(value.length), ...elements.map(({ bytes }) => bytes)]),
  };
}

export function ggufBytes(
  metadata: Readonly<Record<string, MetadataValue>>,
  tensors: readonly FloatTensor[] = [],
): Buffer {
  const parts = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(metadata).length)];
  for (const [key, value] of Object.entries(metadata)) {
    const { bytes, type } = typed(value);
    parts.push(text(key), u32(type), bytes);
  }
  let offset = 0;
  for (const { name, shape, values } of tensors) {
    parts.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(0), u64(offset));
    offset += Math.ceil(values.byteLength / 32) * 32;
  }
  const header = Buffer.concat(parts);
  const data = tensors.map(({ values }) =>
    padded(Buffer.from(values.buffer, values.byteOffset, values.byteLength)),
  );
  return Buffer.concat([padded(header), ...data]);
}

const padded = (bytes: Buffer): Buffer =>
  Buffer.concat([bytes, Buffer.alloc(Math.ceil(bytes.length / 32) * 32 - bytes.length)]);
