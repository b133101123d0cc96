/** linear_neon.h with products of matrices: two rows times two outputs over eight inputs (Armv8.6; many cores since Armv8.2). */
#include <arm_neon.h>
#include <sys/auxv.h>

#include "linear.h"

namespace ss {
namespace {

/** Eight inputs of an output after the other's; `low` and `high`: four and the next four inputs of the four outputs at byte `part` of a line. */
inline void arrange(int8x16_t low, int8x16_t high, int part, int8_t *to) {
  const uint32x4_t a = vreinterpretq_u32_s8(low), b = vreinterpretq_u32_s8(high);
  vst1q_s8(to + 2 * part, vreinterpretq_s8_u32(vzip1q_u32(a, b)));
  vst1q_s8(to + 2 * part + 16, vreinterpretq_s8_u32(vzip2q_u32(a, b)));
}

/** Products of R rows and 16 outputs from `output` on, over a step. Of an odd number of rows the last is multiplied twice. */
template <int R, int W>
inline void multiply(const int8_t *codes, int output, const int8_t *rows, int group, int32x4_t (*dot)[4]) {
  constexpr int PAIRS = (R + 1) / 2;
  int32x4_t product[PAIRS][8];
#pragma clang loop unroll(full)
  for (int i = 0; i < PAIRS * 8; i++) product[i / 8][i % 8] = vdupq_n_s32(0);
#pragma clang loop unroll(full)
  for (int w = 0; w < W; w++) {
    if (w == 1) {
      // First halves of codes count 256 times.
      for (int i = 0; i < PAIRS * 8; i++) product[i / 8][i % 8] = vshlq_n_s32(product[i / 8][i % 8], 8);
    }
#pragma clang loop unroll(full)
    for (int k = 0; k < STEP; k += 8) {
      int8x16_t pair[PAIRS];
      for (int p = 0; p < PAIRS; p++) {
        const int8_t *first = rows + (w * group + 2 * p) * STEP + k, *second = 2 * p + 1 < R ? first + STEP : first;
        pair[p] = vcombine_s8(vld1_s8(first), vld1_s8(second));
      }
      const int8_t *line = codes + k * PANEL + output * 8;
#pragma clang loop unroll(full)
      for (int c = 0; c < 8; c++, line += 16) {
        const int8x16_t weights = vld1q_s8(line);
        for (int p = 0; p < PAIRS; p++) product[p][c] = vmmlaq_s32(product[p][c], pair[p], weights);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; r++) {
    for (int q = 0; q < 4; q++) {
      const int64x2_t a = vreinterpretq_s64_s32(product[r / 2][2 * q]), b = vreinterpretq_s64_s32(product[r / 2][2 * q + 1]);
      dot[r][q] = vreinterpretq_s32_s64(r % 2 ? vtrn2q_s64(a, b) : vtrn1q_s64(a, b));
    }
  }
}

}  // namespace
}  // namespace ss

#include "linear_neon.h"

namespace ss {
namespace {

constexpr unsigned long HAS_I8MM = 1ul << 13;
bool has_i8mm() { return neon_dotprod.available() && (getauxval(AT_HWCAP2) & HAS_I8MM) != 0; }

}  // namespace

const Variant neon_i8mm = {"neon-i8mm", has_i8mm, group_of, round_rows, quantised, floats, &neon_dotprod};

}  // namespace ss
