/**
 * Whether this processor multiplies 8-bit integers exactly and fast.
 *
 * In      /proc/cpuinfo; on another system than Linux the architecture alone
 * Why so  on x64 without VNNI (or AMX) ONNX Runtime adds pairs of products in 16 bits, which overflow with weights of 8 bits, silently;
 *         every arm64 processor that Node runs on either has dot products or adds in 32 bits
 * Errors  none: what cannot be read counts as no
 * Source  ONNX Runtime, "Quantize ONNX models", on U8S8 saturation
 */
import { readFileSync } from 'node:fs';
import { arch } from 'node:process';

const X64_FLAGS = ['avx512_vnni', 'avx_vnni', 'amx_int8'];

/** @param cpuInfo text of /proc/cpuinfo */
export function hasIntegerProducts(architecture: string, cpuInfo: string): boolean {
  if (architecture === 'arm64') return true;
  const flags = /^flags\s*:(.*)$/m.exec(cpuInfo)?.[1]?.split(' ') ?? [];
  return X64_FLAGS.some((flag) => flags.includes(flag));
}

export function multipliesIntegers(): boolean {
  let cpuInfo = '';
  try {
    cpuInfo = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    // Another system: x64 is taken for one without.
  }
  return hasIntegerProducts(arch, cpuInfo);
}
