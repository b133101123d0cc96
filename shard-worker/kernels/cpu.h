/** What an x86 processor and its system can do: the registers' state must be saved by the system too. */
#pragma once
#include <cpuid.h>
#include <stdint.h>

namespace ss {

struct Cpu {
  bool avx2 = false;        // with FMA and F16C
  bool avx_vnni = false;
  bool avx512 = false;      // F, BW, VL, DQ
  bool avx512_vnni = false;
  bool amx_int8 = false;    // tiles too; the system must still be asked for them
};

inline Cpu read_cpu() {
  Cpu cpu;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
  const bool fma = c >> 12 & 1, xsave = c >> 27 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
  if (!xsave || !avx) return cpu;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool saves_ymm = (low & 6) == 6, saves_zmm = (low & 0xe6) == 0xe6, saves_tiles = (low & 0x60000) == 0x60000;
  uint32_t b7, c7, d7, a7 = 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return cpu;
  __get_cpuid_count(7, 1, &a7, &b, &c, &d);
  cpu.avx2 = saves_ymm && fma && f16c && (b7 >> 5 & 1);
  cpu.avx_vnni = cpu.avx2 && (a7 >> 4 & 1);
  cpu.avx512 = cpu.avx2 && saves_zmm && (b7 >> 16 & 1) && (b7 >> 17 & 1) && (b7 >> 30 & 1) && (b7 >> 31 & 1);
  cpu.avx512_vnni = cpu.avx512 && (c7 >> 11 & 1);
  cpu.amx_int8 = cpu.avx512_vnni && saves_tiles && (d7 >> 24 & 1) && (d7 >> 25 & 1);
  // Palette 1: 8 tiles of 16 rows of 64 bytes.
  cpu.amx_int8 = cpu.amx_int8 && __get_cpuid_count(0x1d, 1, &a, &b, &c, &d) && (b & 0xffff) >= 64 && b >> 16 >= 8 && (c & 0xffff) >= 16;
  return cpu;
}

inline const Cpu &cpu() {
  static const Cpu read = read_cpu();
  return read;
}

}  // namespace ss
