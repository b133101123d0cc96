/** linear_neon.h with dot products of four (Armv8.2 and later). */
#include <arm_neon.h>
#include <sys/auxv.h>

#include "linear.h"

namespace ss {
namespace {

/** Four inputs of 16 outputs after the other; `low` and `high`: four and the next four inputs of the four outputs at byte `part` of a line. */
inline void arrange(int8x16_t low, int8x16_t high, int part, int8_t *to) {
  vst1q_s8(to + part, low);
  vst1q_s8(to + 4 * PANEL + part, high);
}

/** Products of R rows and 16 outputs from `output` on, over a step. */
template <int R, int W>
inline void multiply(const int8_t *codes, int output, const int8_t *rows, int group, int32x4_t (*dot)[4]) {
#pragma clang loop unroll(full)
  for (int i = 0; i < R * 4; i++) dot[i / 4][i % 4] = vdupq_n_s32(0);
#pragma clang loop unroll(full)
  for (int pass = 0; pass < 2 * W; pass++) {
    const int half = pass % 2;
    if (pass == 2) {
      // First halves of codes count 256 times.
      for (int i = 0; i < R * 4; i++) dot[i / 4][i % 4] = vshlq_n_s32(dot[i / 4][i % 4], 8);
    }
    int8x16_t row[R];
    for (int r = 0; r < R; r++) row[r] = vld1q_s8(rows + (pass / 2 * group + r) * STEP + half * 16);
#define SS_FOUR(lane)                                                                                   \
  {                                                                                                     \
    const int8_t *line = codes + (half * 4 + lane) * 4 * PANEL + output * 4;                            \
    const int8x16_t w0 = vld1q_s8(line), w1 = vld1q_s8(line + 16), w2 = vld1q_s8(line + 32), w3 = vld1q_s8(line + 48); \
    for (int r = 0; r < R; r++) {                                                                       \
      dot[r][0] = vdotq_laneq_s32(dot[r][0], w0, row[r], lane);                                         \
      dot[r][1] = vdotq_laneq_s32(dot[r][1], w1, row[r], lane);                                         \
      dot[r][2] = vdotq_laneq_s32(dot[r][2], w2, row[r], lane);                                         \
      dot[r][3] = vdotq_laneq_s32(dot[r][3], w3, row[r], lane);                                         \
    }                                                                                                   \
  }
    SS_FOUR(0) SS_FOUR(1) SS_FOUR(2) SS_FOUR(3)
#undef SS_FOUR
  }
}

}  // namespace
}  // namespace ss

#include "linear_neon.h"

namespace ss {
namespace {

/** Dot products, and arithmetic of halves, which the compiler may use here too. */
constexpr unsigned long HAS_DOTPROD = 1ul << 20, HAS_HALVES = 1ul << 10;
bool has_dotprod() {
  const unsigned long needed = HAS_DOTPROD | HAS_HALVES;
  return (getauxval(AT_HWCAP) & needed) == needed;
}

}  // namespace

const Variant neon_dotprod = {"neon-dotprod", has_dotprod, group_of, round_rows, quantised, floats, &portable};

}  // namespace ss
