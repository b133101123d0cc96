/**
 * IEEE 754 half precision: a number to its 16 bits, nearest, ties to even; and back. Node 20 has no Float16Array.
 *
 * Limits  beyond 65,504 (and halfway to the next): infinity
 */
const scratch = new DataView(new ArrayBuffer(4));

export function writeHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65_520) return sign | 0x7c00;
  // Steps of 2^-24 below 2^-14, of a 1,024th of its power of two above.
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude || 2 ** -24)));
  const step = 2 ** (exponent - 10);
  const steps = roundToEven(magnitude / step);
  return sign | (steps + (exponent + 14) * 1024);
}

const roundToEven = (value: number): number => {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
};

export function readHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  scratch.setFloat32(0, exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
  return sign * scratch.getFloat32(0);
}
